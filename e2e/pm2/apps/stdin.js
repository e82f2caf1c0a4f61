// Repeats what it reads.
process.stdin.on('data', data => console.log('read ' + String(data).trim()))
console.log('here')
setInterval(() => {}, 1000)
