//! The way to a file, and the way back of several: what others do to names meanwhile leads nowhere.

use std::{fs, time::Duration};

use upkeep_render::{
    command::Run,
    file::{Place, Target, Ways},
    set,
};

/// Whoever may change a folder's name cannot lead us elsewhere between a look and a write.
#[test]
fn a_folder_that_is_swapped_is_not_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for name in ["conf", "elsewhere"] {
        fs::create_dir(at(name)).expect("made");
    }
    fs::write(at("elsewhere/app.sh"), "theirs\n").expect("written");
    fs::write(at("conf/app.sh"), "old\n").expect("written");
    let target = Target {
        ways: Ways::Trusted,
        ..Target::new(at("conf/app.sh"))
    };
    let place = Place::of(&target).expect("a place");
    fs::rename(at("conf"), at("moved")).expect("moved");
    std::os::unix::fs::symlink("elsewhere", at("conf")).expect("a link");
    let bytes = |place: &Place| place.present().expect("read").map(|present| present.bytes);
    assert_eq!(bytes(&place).as_deref(), Some(&b"old\n"[..]));
    place
        .prepare(b"new\n")
        .expect("prepared")
        .take_place()
        .expect("written");
    let text = |name: &str| fs::read_to_string(at(name)).expect("a file");
    assert_eq!(
        (text("moved/app.sh"), text("elsewhere/app.sh")),
        ("new\n".into(), "theirs\n".into())
    );
    place.go_back().expect("back");
    assert_eq!(
        (text("moved/app.sh"), text("elsewhere/app.sh")),
        ("old\n".into(), "theirs\n".into())
    );
    place.go_back().expect("nothing to go back to");
    assert_eq!(text("moved/app.sh"), "old\n", "what was not replaced stays");
    // A link of ours is a way like others; one of somebody else is none. Only root can make that one.
    let through = Place::of(&target).expect("a place");
    assert_eq!(bytes(&through).as_deref(), Some(&b"theirs\n"[..]));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(at("conf"), Some(4242), None).expect("given away");
        let error = Place::of(&target).expect_err("theirs").to_string();
        assert!(
            error.contains("app.sh") && error.contains("`conf`") && error.contains("4242"),
            "{error}"
        );
        assert!(
            Place::of(&Target::new(at("conf/app.sh"))).is_ok(),
            "who asks for any way has any"
        );
    }
}

#[test]
fn what_is_no_file_by_now_is_not_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.conf");
    let place = Place::of(&Target::new(&path)).expect("a place");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        &path,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
    )
    .expect("a FIFO");
    let error = place.present().expect_err("a FIFO").to_string();
    assert!(error.contains("no file"), "{error}");
}

/// One that cannot be put back keeps none of the others.
#[test]
fn all_of_several_files_go_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let third = at("three.conf");
    let sabotage = format!("rm {0} && mkdir {0}", third.display());
    let wanted = |name: &str| set::Wanted {
        target: Target::new(at(name)),
        check: (name == "three.conf").then(|| Run::shell(&sabotage, Duration::from_secs(10))),
        allow_blank: false,
        text: "new\n".to_owned(),
    };
    for name in ["one.conf", "two.conf", "three.conf"] {
        fs::write(at(name), "old\n").expect("written");
    }
    // In the way of the way back.
    fs::create_dir(at(".one.conf.upkeep-old")).expect("made");
    let error = set::write(&["one.conf", "two.conf", "three.conf"].map(wanted)).expect_err("a folder");
    let error = error.to_string();
    assert!(
        error.contains("three.conf") && error.contains("one.conf"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(at("two.conf")).expect("a file"), "old\n");
    assert!(third.is_dir(), "what is not ours is left alone");
}
