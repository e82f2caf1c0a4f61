// Tells its supervisor: speak.js JSON
process.send(JSON.parse(process.argv[2]))
setInterval(() => {}, 1000)
