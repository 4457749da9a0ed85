//! Owns the bytes of the wire: each message has them in `fixtures/wire.txt`, one line `direction name hex`.
//! A change of form fails here, and bytes written by an older build stay readable.

use std::fmt::Write as _;

use groundswell_common::codec::{from_frame, to_frame};
use groundswell_common::digest::{hex, unhex};
use groundswell_common::wire::{ToAgent, ToCoordinator};

use crate::samples;

const GOLDEN: &str = include_str!("fixtures/wire.txt");

fn golden(direction: &str, name: &str) -> Vec<u8> {
    let wanted = format!("{direction} {name} ");
    let line = GOLDEN.lines().find_map(|line| line.strip_prefix(&wanted));
    unhex(line.unwrap_or_else(|| panic!("fixtures/wire.txt has no line {wanted:?}"))).unwrap()
}

/// What the fixture would be today; shown when it differs.
fn today() -> String {
    let mut text = String::new();
    for (name, message) in samples::to_coordinator() {
        writeln!(text, "to-coordinator {name} {}", hex(&to_frame(&message).unwrap())).unwrap();
    }
    for (name, message) in samples::to_agent() {
        writeln!(text, "to-agent {name} {}", hex(&to_frame(&message).unwrap())).unwrap();
    }
    text
}

#[test]
fn every_message_has_its_bytes() {
    assert!(
        today() == GOLDEN,
        "the wire's form changed: a message that was appended gets its line in fixtures/wire.txt, anything \
         else raises WIRE_VERSION. Today:\n{}",
        today()
    );
}

#[test]
fn bytes_of_an_older_build_are_read() {
    for (name, message) in samples::to_coordinator() {
        let read: ToCoordinator = from_frame(&golden("to-coordinator", name)).unwrap();
        assert_eq!(read, message, "{name}");
    }
    for (name, message) in samples::to_agent() {
        let read: ToAgent = from_frame(&golden("to-agent", name)).unwrap();
        assert_eq!(read, message, "{name}");
    }
}

#[test]
fn a_message_cut_anywhere_or_with_a_byte_more_is_refused() {
    for line in GOLDEN.lines() {
        let bytes = unhex(line.rsplit(' ').next().unwrap()).unwrap();
        let read = |bytes: &[u8]| match line.starts_with("to-agent") {
            true => from_frame::<ToAgent>(bytes).map(|_| ()),
            false => from_frame::<ToCoordinator>(bytes).map(|_| ()),
        };
        read(&bytes).unwrap();
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "{line} cut at {cut}");
        }
        assert!(read(&[bytes.as_slice(), &[0]].concat()).is_err(), "{line} with a byte more");
    }
}

/// One message of each variant: a new variant does not compile before it has its place here.
#[test]
fn no_variant_is_left_out() {
    let place = |message: &ToCoordinator| match message {
        ToCoordinator::Hello(_) => 0,
        ToCoordinator::Report(_) => 1,
        ToCoordinator::PermitRequest(_) => 2,
        ToCoordinator::PermitDone { .. } => 3,
        ToCoordinator::Beat => 4,
        ToCoordinator::Condition(_) => 5,
    };
    let places: Vec<u8> = samples::to_coordinator().iter().map(|(_, m)| place(m)).collect();
    assert_eq!(places, [0, 1, 2, 3, 4, 5]);
    let place = |message: &ToAgent| match message {
        ToAgent::Welcome(_) => 0,
        ToAgent::Directive(_) => 1,
        ToAgent::ReportAck { .. } => 2,
        ToAgent::Permit(_) => 3,
        ToAgent::Beat => 4,
        ToAgent::Farewell(_) => 5,
        ToAgent::Told(_) => 6,
        ToAgent::Twin { .. } => 7,
    };
    let places: Vec<u8> = samples::to_agent().iter().map(|(_, m)| place(m)).collect();
    assert_eq!(places, [0, 1, 2, 3, 3, 3, 3, 4, 5, 6, 7]);
    // The variant's number is the byte after the version.
    let numbers: Vec<u8> =
        samples::to_agent().iter().map(|(name, _)| golden("to-agent", name)[1]).collect();
    assert_eq!(numbers, places);
}
