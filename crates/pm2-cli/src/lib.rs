//! The command lines `pm2`, `pm2-runtime`, `pm2-docker` and `pm2-dev`.

#![forbid(unsafe_code)]
