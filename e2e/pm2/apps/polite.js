// Takes its time to end: polite.js MS
process.on('SIGINT', () => {
  console.log('ending')
  setTimeout(() => process.exit(0), Number(process.argv[2] || 200))
})
console.log('here')
setInterval(() => {}, 1000)
