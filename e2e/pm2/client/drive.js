// Drives a daemon through the npm module and prints what it sees, a line of JSON for each step.
// Where the module is: the first argument. Pids, times and figures are not printed.
const pm2 = require(process.argv[2])
const fs = require('fs')

const call = (method, ...args) => new Promise(resolve => {
  pm2[method](...args, (error, result) => resolve({ error, result }))
})
const print = (step, value) => console.log(JSON.stringify({ step, ...value }))
const why = error => error && String((Array.isArray(error) ? error[0] : error).message ?? error).split('\n')[0]
const wait = ms => new Promise(resolve => setTimeout(resolve, ms))

const FIELDS = ['status', 'restart_time', 'exec_mode', 'instances', 'namespace', 'NODE_APP_INSTANCE', 'watch', 'args', 'X',
  'max_restarts', 'exec_interpreter', 'autorestart']
const shape = process => {
  const env = process.pm2_env ?? {}
  return { name: process.name, pm_id: process.pm_id, running: process.pid > 0,
    keys: Object.keys(process), ...Object.fromEntries(FIELDS.map(key => [key, env[key]])) }
}
// Answers to actions hold whole processes; what the daemon's own objects of them hold is nobody's business.
const brief = result => {
  if (!Array.isArray(result)) return typeof result
  return result.map(process => {
    const env = process.pm2_env ?? process
    return { name: env.name, pm_id: env.pm_id, status: env.status, restart_time: env.restart_time }
  }).sort((one, other) => one.pm_id - other.pm_id) // several are done at once
}
const list = async step => {
  const { error, result } = await call('list')
  print(step, { error: why(error), list: result && result.map(shape) })
  return result
}
const settled = async test => {
  for (let tries = 0; tries < 100; tries++) {
    const { result } = await call('list')
    if (result && test(result)) return
    await wait(50)
  }
  print('in vain', { test: String(test) })
}

async function main() {
  const act = async (step, method, ...args) => {
    const { error, result } = await call(method, ...args)
    print(step, { error: why(error), result: brief(result) })
  }
  await act('connect', 'connect')
  await list('nothing yet')
  const events = []
  const { result: bus } = await call('launchBus')
  for (const type of ['log:out', 'log:err', 'process:event', 'process:msg', 'custom:thing']) {
    bus.on(type, packet => events.push([type, packet]))
  }
  const heard = async (step, type, test) => {
    for (let tries = 0; tries < 100 && !events.some(([own, packet]) => own === type && test(packet)); tries++) await wait(50)
    const found = events.find(([own, packet]) => own === type && test(packet))
    if (!found) return print(step, { heard: null })
    const { process, at, ...rest } = found[1]
    print(step, { heard: { ...rest, process: process && { name: process.name, pm_id: process.pm_id, namespace: process.namespace, status: process.status }, at: typeof at } })
  }

  // Waits until the app that writes its messages down has written so many.
  async function told(lines) {
    for (let tries = 0; tries < 200; tries++) {
      if (fs.existsSync('messages.txt') && fs.readFileSync('messages.txt', 'utf8').trim().split('\n').length >= lines) return
      await wait(50)
    }
  }

  await act('start an object', 'start', { script: './say.js', name: 'one', args: ['a', 'b'], env: { X: '1' }, max_restarts: 4 })
  await heard('its output', 'log:out', packet => packet.process.name === 'one')
  await heard('its errors', 'log:err', packet => packet.process.name === 'one')
  await heard('its event', 'process:event', packet => packet.event === 'online')
  await act('start a file', 'start', 'client.json')
  await act('start a script with options', 'start', './message.js', { name: 'message' })
  await act('start a list', 'start', [{ script: './idle.js', name: 'four' }, { script: './idle.js', name: 'five', instances: 2, exec_mode: 'fork' }])
  await act('start what is not there', 'start', { script: './nowhere.js' })
  await act('start what runs', 'start', { script: './say.js', name: 'one' })
  await settled(list => list.length >= 6 && list.every(process => process.pm2_env.status === 'online'))
  await list('all of them')
  {
    const { error, result } = await call('describe', 'one')
    print('describe', { error: why(error), result: result && result.map(shape) })
  }
  {
    const { error, result } = await call('describe', 'nobody')
    print('describe nobody', { error: why(error), result: result && result.map(shape) })
  }
  await act('restart', 'restart', 'one')
  await act('restart by id', 'restart', 0)
  await act('reload', 'reload', 'one')
  await act('restart nobody', 'restart', 'nobody')
  await act('stop', 'stop', 'one')
  await list('one is stopped')
  await act('stop again', 'stop', 'one')
  await act('start again by restart', 'restart', 'one')
  for (let tries = 0; tries < 100 && !fs.existsSync('message.up'); tries++) await wait(50)
  const { result: found } = await call('describe', 'message')
  const id = found[0].pm_id
  await act('send data', 'sendDataToProcessId', id, { type: 'process:msg', data: { hello: 1 }, topic: 't' })
  await act('send data as one object', 'sendDataToProcessId', { id, type: 'process:msg', data: { hello: 2 }, topic: 't' })
  await act('send data to nobody', 'sendDataToProcessId', 99, { type: 'x', data: {}, topic: 't' })
  await act('signal by name', 'sendSignalToProcessName', 'SIGUSR2', 'message')
  // The kernel makes one of two signals that wait: the first has to have arrived.
  await told(3)
  await act('signal by id', 'sendSignalToProcessId', 'SIGUSR2', id)
  await told(4)
  print('messages', { lines: fs.readFileSync('messages.txt', 'utf8').trim().split('\n').sort() })
  await act('start a speaker', 'start', { script: './speak.js', name: 'speaker', args: ['{"type":"custom:thing","data":{"x":1}}'] })
  await heard('what it says', 'custom:thing', () => true)
  await act('start another speaker', 'start', { script: './speak.js', name: 'other', args: ['{"plain":true}'] })
  await heard('what it says', 'process:msg', () => true)
  {
    const { error, result } = await call('getVersion')
    print('getVersion', { error: why(error), result })
  }
  await act('reloadLogs', 'reloadLogs')
  await act('flush', 'flush', 'one')
  await act('dump', 'dump')
  print('dumped', { names: JSON.parse(fs.readFileSync(process.env.PM2_HOME + '/dump.pm2')).map(env => env.name) })
  await act('delete', 'delete', 'one')
  await act('delete by id', 'delete', id)
  await act('delete nobody', 'delete', 'nobody')
  await act('delete all', 'delete', 'all')
  await list('nothing left')
  bus.close?.()
  if (process.argv[3] === 'kill') await act('killDaemon', 'killDaemon')
  pm2.disconnect()
  print('the end', {})
  setTimeout(() => process.exit(0), 300)
}

main().catch(error => {
  print('thrown', { error: String(error) })
  process.exit(1)
})
