//! The record of a process, `pm2_env`.
