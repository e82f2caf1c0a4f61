// Ends at once, or after a time: exit.js CODE [MS]
const code = Number(process.argv[2] || 0)
if (process.argv[3]) setTimeout(() => process.exit(code), Number(process.argv[3]))
else process.exit(code)
