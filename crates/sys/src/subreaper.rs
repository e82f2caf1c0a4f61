//! Becoming the parent of orphans among our descendants, so that their end is ours to see.

use crate::{
    call::{CallError, Result},
    pid::Pid,
};

/// From now on, orphaned descendants of this process become its children.
pub fn become_subreaper() -> Result<()> {
    let own = Pid::own();
    rustix::process::set_child_subreaper(own.rustix())
        .map_err(|errno| CallError::new("prctl PR_SET_CHILD_SUBREAPER", own, errno))
}

/// Takes (or leaves) the name `ps` and `top` show for this process: 15 bytes of it.
pub fn set_name(name: &std::ffi::CStr) -> Result<()> {
    rustix::thread::set_name(name)
        .map_err(|errno| CallError::new("prctl PR_SET_NAME", name.to_string_lossy(), errno))
}
