// Tells what it was given, then idles.
const fs = require('fs')
const name = `env-${process.env.pm_id || process.env.NODE_APP_INSTANCE}`
const told = { argv: process.argv.slice(2), script: process.argv[1], cwd: process.cwd(), execArgv: process.execArgv,
  main: require.main === module, filename: __filename, title: process.title, connected: process.connected,
  env: Object.fromEntries(Object.entries(process.env).sort()) }
fs.writeFileSync(name + '.new', JSON.stringify(told))
fs.renameSync(name + '.new', name + '.json')
setInterval(() => {}, 1000)
