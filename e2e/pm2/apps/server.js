// Serves at a socket in its folder.
require('http').createServer((request, response) => response.end('served by ' + process.env.NODE_APP_INSTANCE))
  .listen('server.sock')
