//! Output of applications: from pipe to file, and back to whoever asks.
//!
//! # Theory of operation
//!
//! Each instance writes into two pipes (standard output and error) whose both ends the keeper holds. The **pump**
//! ([`pump`]), one thread with one epoll, moves bytes from the pipes to the log files with `splice`: inside the kernel,
//! through no buffer of ours. What has left the pipe is in the file; what is not in the file is still in the pipe; so a
//! daemon that is killed at any instant loses nothing, repeats nothing and tears nothing: the next one opens the file
//! at its end and goes on.
//!
//! A log is a **current file** and **rotated files** beside it, `shop-0.out.log` and `shop-0.out.log.000007`, higher
//! numbers being newer ([`files`]). Rotation happens at the end of a line: `tee` looks into the pipe without taking,
//! finds the newline, and exactly that much is spliced before the file changes its name. The rename is one step, so
//! a kill leaves either the old or the new situation. A file is rotated by its size and, where the app wants it, by the
//! wall clock ([`period`]).
//!
//! Two more threads look after rotated files, so that the pump never waits for them ([`janitor`]): one deletes what is
//! too much, counted first in lines and bytes; one compresses, into frames that can be entered one by one
//! ([`packed`]). What is known of a log beside its bytes is its [`ledger`]; what lies beside what, [`names`] tells.
//!
//! Where an app wants its lines with a time or as JSON, they go another way, which no kill interrupts either
//! ([`batch`]).
//!
//! Bytes carry no time. Beside each file lies a **time index**, `….log.idx`, with a record (Unix ms, offset) at most
//! every 100 ms: what lies from that offset on arrived at that time or after. It is written *before* the bytes are
//! moved. Times are therefore those of the batch, and no byte is rewritten to carry one.
//!
//! If a file cannot be written (disk full, read-only), the pump leaves the pipe alone for as long as it has room, so
//! that a short trouble loses nothing; when the pipe is three quarters full it empties it, counts lines and bytes as
//! **lost** and says so. An application is never held up by a disk.
//!
//! Readers ([`read`]) open the files themselves and share nothing with the pump. They go backwards for "the last N
//! lines" and forwards for "since", merge sources by time, and follow by looking for growth and for rotation. Where a
//! reader is in all its logs is said by an id of few words, from which another goes on ([`read::marks`]).
//!
//! What an app wants elsewhere as well (journal, syslog, standard output) is read from the files too, by one more thread
//! ([`sinks`]).
//!
//! A file that somebody truncates, deletes or moves away: the first two are noticed before the next bytes are moved;
//! a moved file is written to until it has grown to its limit, as any daemon does, and then the path is made anew.
//! Sources that are given one path share one file, and their whole lines stay whole.

pub(crate) mod batch;
pub(crate) mod beside;
pub(crate) mod files;
pub(crate) mod janitor;
pub(crate) mod ledger;
pub(crate) mod names;
pub(crate) mod packed;
mod period;
pub(crate) mod pump;
pub(crate) mod rate;
pub(crate) mod read;
pub(crate) mod sinks;
