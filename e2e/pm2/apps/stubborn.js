// Ignores SIGINT; says so.
process.on('SIGINT', () => console.log('no'))
console.log('here')
setInterval(() => {}, 1000)
