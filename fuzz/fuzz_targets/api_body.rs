//! No bytes make the readers of the API's bodies panic, hang or eat the memory; what is read is written and read again as
//! the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};
use upkeep_api::{
    access::{RolePut, TokenPost},
    alert::{SilencePut, TestPost},
    body::{ActionOptions, Apply, Rollback, Scale, Selection, Upgrade},
    certificate::CertificatePost,
    inspect::{HeapRequest, ProfileRequest},
    settings::SettingsPut,
};
use upkeep_model::access::{Held, VERBS};

fn read<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(data: &[u8]) -> Option<T> {
    let body: T = serde_json::from_slice(data).ok()?;
    let bytes = serde_json::to_vec(&body).expect("what was read can be written");
    let again: T = serde_json::from_slice(&bytes).expect("what was written can be read");
    assert_eq!(body, again);
    Some(body)
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice % 12 {
        0 => drop(read::<Apply>(rest)),
        1 => drop(read::<Selection>(rest)),
        2 => drop(read::<ActionOptions>(rest)),
        3 => drop(read::<Scale>(rest)),
        4 => drop(read::<Rollback>(rest)),
        5 => drop(read::<Upgrade>(rest)),
        6 => drop(read::<TokenPost>(rest)),
        7 => {
            let Some(put) = read::<RolePut>(rest) else { return };
            let held = Held { grants: put.grants, bound: None };
            assert!(Held::all().contains(&held), "an admin holds everything");
            for verb in VERBS {
                let reach = held.reach(*verb);
                assert!(!reach.is_everywhere() || reach.covers("any", "where"));
                assert!(!reach.is_nowhere() || !reach.covers("any", "where"));
            }
        }
        8 => {
            if let Some(put) = read::<SettingsPut>(rest) {
                drop(put.settings.check());
            }
        }
        9 => drop(read::<SilencePut>(rest).is_some() || read::<TestPost>(rest).is_some()),
        10 => drop(read::<CertificatePost>(rest)),
        _ => drop(read::<HeapRequest>(rest).is_some() || read::<ProfileRequest>(rest).is_some()),
    }
});
