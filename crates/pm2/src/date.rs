//! Dates as day.js formats them: `YYYY-MM-DD HH:mm:ss`.
