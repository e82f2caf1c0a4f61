//! Proposals: so many, so large, and only what could be carried out.

use futures_executor::block_on;
use upkeep_config::{
    ConfigError,
    entry::{Change, Removal},
    proposals::WAITING_OF_ONE,
    rights::{All, Asker},
    rules::Rules,
};

use crate::world::{ME, World, in_, put};

const BOB: Asker<'static> = Asker {
    who: "uid:1001",
    rights: &All,
};

fn protect(world: &World, approvals: u8) {
    let rules = Rules {
        approvals,
        ..Rules::default()
    };
    block_on(world.config.set_rules(ME, &in_("/a/"), rules)).expect("set");
}

fn one(name: usize, text: &str) -> Change {
    Change {
        puts: vec![put(&format!("/a/{name}"), text)],
        ..Change::default()
    }
}

#[test]
fn one_proposer_does_not_fill_the_list() {
    let world = World::new();
    protect(&world, 1);
    for name in 0..WAITING_OF_ONE {
        world.try_change(ME, &one(name, "x")).expect("proposed");
    }
    let error = world
        .try_change(ME, &one(1, "x"))
        .expect_err("enough")
        .to_string();
    assert!(error.contains("100 proposals of `uid:1000`"), "{error}");
    world
        .try_change(BOB, &one(1, "x"))
        .expect("there is room for others");
    // Page by page, each once.
    let mut ids = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = block_on(world.config.proposals(ME, 30, after.as_deref())).expect("a list");
        ids.extend(page.proposals.into_iter().map(|one| one.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), WAITING_OF_ONE + 1);
    // By bytes as well.
    let world = World::new();
    protect(&world, 1);
    let large = "x".repeat(500 << 10);
    let error = (0..WAITING_OF_ONE)
        .find_map(|name| world.try_change(ME, &one(name, &large)).err())
        .expect("it is too much")
        .to_string();
    assert!(error.contains("proposals of `uid:1000` of"), "{error}");
    let mut puts = one(1, &large).puts;
    puts.extend(one(2, &large).puts);
    let change = Change {
        puts,
        ..Change::default()
    };
    let error = world
        .try_change(BOB, &change)
        .expect_err("too large for one")
        .to_string();
    assert!(error.contains("propose it in parts"), "{error}");
}

#[test]
fn what_the_store_could_not_carry_out_is_refused_when_it_is_proposed() {
    let world = World::with(20, crate::world::now);
    let puts = |count: usize| Change {
        puts: (0..count).map(|name| put(&format!("/a/{name}"), "x")).collect(),
        ..Change::default()
    };
    world
        .try_change(ME, &puts(8))
        .expect("eight fit: two guards for each that is new, and three of every change");
    protect(&world, 1);
    let error = world.try_change(
        ME,
        &Change {
            puts: (0..10).map(|name| put(&format!("/a/{name}"), "y")).collect(),
            ..Change::default()
        },
    );
    let error = error.expect_err("with its end that is too much").to_string();
    assert!(
        error.contains("10 values") && error.contains("takes 20"),
        "{error}"
    );
    assert_eq!(
        block_on(world.config.proposals(BOB, 10, None))
            .expect("a list")
            .proposals,
        []
    );
    // What is proposed can be carried out.
    let removal = Change {
        removals: vec![Removal {
            place: in_("/a/"),
            expected: None,
        }],
        ..Change::default()
    };
    let error = world.try_change(ME, &removal).expect_err("27 steps").to_string();
    assert!(error.contains("takes in one change"), "{error}");
    let proposed = world.try_change(
        ME,
        &Change {
            puts: (0..9).map(|name| put(&format!("/a/{name}"), "z")).collect(),
            ..Change::default()
        },
    );
    let id = proposed
        .expect("proposed")
        .proposed
        .expect("it waits")
        .id
        .expect("an id");
    block_on(world.config.approve(BOB, &id)).expect("carried out");
    assert_eq!(world.text("/a/8").as_deref(), Some("z"));
}

#[test]
fn an_approval_counts_by_the_rules_that_hold_then() {
    let world = World::new();
    protect(&world, 1);
    let proposed = world.try_change(ME, &one(1, "x")).expect("proposed");
    let id = proposed.proposed.expect("it waits").id.expect("an id");
    // Another daemon has said meanwhile that it takes two.
    let kv: std::sync::Arc<dyn upkeep_store::kv::Kv> = std::sync::Arc::new(world.store.clone());
    let other = block_on(upkeep_config::Config::open(kv, Vec::new(), crate::world::now)).expect("open");
    let rules = Rules {
        approvals: 2,
        ..Rules::default()
    };
    block_on(other.set_rules(ME, &in_("/a/"), rules)).expect("set");
    let first = block_on(world.config.approve(BOB, &id)).expect("one of two");
    assert!(matches!(first, upkeep_config::proposals::Approval::Waits(proposal) if proposal.approvals == 2));
    assert_eq!(world.text("/a/1"), None);
    assert!(matches!(
        block_on(world.config.approve(ME, &id)),
        Err(ConfigError::Change(_))
    ));
}
