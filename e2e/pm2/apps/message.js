// Writes every message down; ends on `shutdown`.
const fs = require('fs')
process.on('message', message => {
  fs.appendFileSync('messages.txt', JSON.stringify(message) + '\n')
  if (message === 'shutdown') process.exit(0)
})
process.on('SIGINT', () => fs.appendFileSync('messages.txt', 'SIGINT\n'))
process.on('SIGUSR2', () => fs.appendFileSync('messages.txt', 'SIGUSR2\n'))
fs.writeFileSync('message.up', '')
setInterval(() => {}, 1000)
