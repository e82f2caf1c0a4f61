//! Becoming another program: same process, same children, same descriptors where wanted.

use std::{
    convert::Infallible,
    ffi::{CString, OsString},
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::Path,
    ptr,
};

use crate::{
    call::{CallError, Result},
    descriptor,
};

/// Replaces this program. The descriptors in `keep` go over to the new one; all others that are CLOEXEC (all of
/// ours) do not. The signal mask stays, and so do pending signals: none is lost.
///
/// Returns only if it failed; then nothing has changed.
pub fn replace(
    program: &Path,
    argv: &[OsString],
    env: &[(OsString, OsString)],
    keep: &[BorrowedFd<'_>],
) -> Result<Infallible> {
    let text = |bytes: Vec<u8>| {
        CString::new(bytes).map_err(|_| CallError::new("execve", program.display(), rustix::io::Errno::INVAL))
    };
    let path = text(program.as_os_str().as_bytes().to_vec())?;
    let argv = argv
        .iter()
        .map(|part| text(part.as_bytes().to_vec()))
        .collect::<Result<Vec<_>>>()?;
    let env = env
        .iter()
        .map(|(name, value)| text([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<Result<Vec<_>>>()?;
    let pointers = |texts: &[CString]| -> Vec<_> {
        texts
            .iter()
            .map(|text| text.as_ptr())
            .chain([ptr::null()])
            .collect()
    };
    let (argv_pointers, env_pointers) = (pointers(&argv), pointers(&env));
    for fd in keep {
        descriptor::set_cloexec(fd, false)?;
    }
    // JUSTIFICATION: std's `exec` changes the signal mask and dispositions; here both must stay.
    // SAFETY: both vectors end with null and point into live C strings.
    unsafe { libc::execve(path.as_ptr(), argv_pointers.as_ptr(), env_pointers.as_ptr()) };
    let error = CallError::last("execve", program.display());
    for fd in keep {
        descriptor::set_cloexec(fd, true)?;
    }
    Err(error)
}
