import fs from 'fs'
console.log('module', typeof require, fs.existsSync('module.mjs'))
setInterval(() => {}, 1000)
