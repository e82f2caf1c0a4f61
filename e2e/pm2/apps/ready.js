// Says that it is ready after a time: ready.js MS
setTimeout(() => process.send('ready'), Number(process.argv[2] || 300))
setInterval(() => {}, 1000)
