//! Pages of our own program that we do not need any more.
//!
//! Starting touches most of a program once: arguments, formats, recovery. The kernel maps what is near each fault as
//! well, so that soon all of it counts as resident, and stays so although a daemon that waits needs little of it. Code
//! that is given back costs nothing but a fault when it is called again: its pages are in the page cache.

use std::fs;

use crate::call::{CallError, Result};

/// Gives back the pages of our program's code. Returns how many bytes of it are mapped.
pub fn give_back_code() -> Result<usize> {
    let maps = fs::read_to_string("/proc/self/maps")
        .map_err(|error| CallError::from_io("read", "/proc/self/maps", &error))?;
    let program = fs::read_link("/proc/self/exe")
        .map_err(|error| CallError::from_io("readlink", "/proc/self/exe", &error))?;
    let program = program.to_string_lossy();
    let mut bytes = 0;
    for line in maps.lines() {
        let Some((start, length)) = code(line, &program) else {
            continue;
        };
        // JUSTIFICATION: rustix' `madvise` is unsafe too: some advice changes what memory holds.
        // SAFETY: the range is a private mapping of a file that can be executed and not written. Its pages are those of
        // the file, so what is read after MADV_DONTNEED is what was there before; code that runs meanwhile is fetched
        // again by a fault.
        let result = unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        if result < 0 {
            return Err(CallError::last("madvise", program));
        }
        bytes += length;
    }
    Ok(bytes)
}

/// Has all threads share one heap: threads that allocate little and at the same time seldom need none of their own, and each
/// keeps what it has once used. To be called before there are threads.
pub fn share_one_heap() {
    // JUSTIFICATION: how many heaps there are is a parameter of the C library's allocator, which Rust has no name for.
    // SAFETY: `mallopt` only stores the number; it is called with a parameter and a value that are documented.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives back what the allocator holds and nobody uses, of all threads. For whoever has made something large once, on a
/// thread that others do not wait for: it takes longer the more there is.
pub fn give_back_heap() {
    // JUSTIFICATION: what one thread has freed stays with the allocator for that thread until it is told otherwise.
    // SAFETY: `malloc_trim` locks each arena while it looks at it, and gives back only pages of free chunks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Start and length of a mapping that is code of the program: `r-xp` and nothing else. What could have been written to
/// is left alone, since its pages need not be those of the file.
fn code(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if fields.next()? != "r-xp" || !line.ends_with(program) {
        return None;
    }
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_given_back_and_the_rest_stays() {
        let resident = || {
            let statm = fs::read_to_string("/proc/self/statm").expect("statm");
            let pages = statm
                .split(' ')
                .nth(1)
                .and_then(|pages| pages.parse::<usize>().ok());
            pages.expect("pages")
        };
        // Small ones, so that they are of the heap and no mappings of their own; the last keeps the heap's end up.
        let mut blocks: Vec<Vec<u8>> = (0..4096).map(|_| vec![1; 8 << 10]).collect();
        let last = blocks.pop().expect("a block");
        let full = resident();
        drop(blocks);
        give_back_heap();
        let after = resident();
        assert!(after + 4096 < full, "{after} of {full} pages");
        assert!(last.iter().all(|byte| *byte == 1));
    }

    #[test]
    fn only_code_of_the_program_is_chosen() {
        let line = "7f00-8f00 r-xp 00001000 fe:01 77 /usr/bin/upkeep";
        assert_eq!(code(line, "/usr/bin/upkeep"), Some((0x7f00, 0x1000)));
        for other in [
            "7f00-8f00 r--p 00001000 fe:01 77 /usr/bin/upkeep",
            "7f00-8f00 rwxp 00001000 fe:01 77 /usr/bin/upkeep",
            "7f00-8f00 r-xp 00001000 fe:01 77 /lib/libc.so.6",
            "7f00-8f00 r-xp 00000000 00:00 0 [vdso]",
        ] {
            assert_eq!(code(other, "/usr/bin/upkeep"), None, "{other}");
        }
    }

    #[test]
    fn code_that_was_given_back_runs_on() {
        let resident = || {
            let smaps = fs::read_to_string("/proc/self/smaps").expect("smaps");
            let mut ours = false;
            let mut kib = 0_u64;
            for line in smaps.lines() {
                if line.contains(" r-xp ") {
                    ours = line.contains("upkeep_sys");
                } else if ours && let Some(rest) = line.strip_prefix("Rss:") {
                    kib += rest
                        .trim()
                        .trim_end_matches(" kB")
                        .parse::<u64>()
                        .expect("a number");
                    ours = false;
                }
            }
            kib
        };
        // Enough of the program has run to be resident.
        let sorted: std::collections::BTreeSet<u64> = (0..1000).rev().collect();
        let before = resident();
        let mapped = give_back_code().expect("it can be given back");
        assert!(
            mapped > 0 && before > 0,
            "{mapped} bytes of code, {before} KiB resident"
        );
        assert_eq!(sorted.iter().sum::<u64>(), 499_500);
    }
}
