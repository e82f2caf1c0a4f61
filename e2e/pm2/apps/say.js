// One line on each stream, then idles.
console.log('said on out')
console.error('said on err')
setInterval(() => {}, 1000)
