//! Any bytes on the keeper's socket: split into frames, decoded in both directions, encoded again.

#![no_main]

use std::collections::VecDeque;

use libfuzzer_sys::fuzz_target;
use upkeep_keeper::{
    codec::{self, Received},
    frames::Inbox,
};

fuzz_target!(|bytes: &[u8]| {
    let mut inbox = Inbox::resumed(bytes.to_vec(), VecDeque::from([None]));
    while let Ok(Some(frame)) = inbox.next_frame() {
        let mut passed = VecDeque::from([None]);
        if let Ok(Received::Request(request)) = codec::decode_request(frame.body, &mut passed) {
            let again = codec::encode_request(&request);
            assert!(codec::decode_request(&again, &mut VecDeque::new()).is_ok());
        }
        let mut passed = VecDeque::from([None]);
        if let Ok(event) = codec::decode_event(frame.body, &mut passed) {
            let again = codec::encode_event(&event);
            assert!(codec::decode_event(&again, &mut VecDeque::from([None])).is_ok());
        }
    }
});
