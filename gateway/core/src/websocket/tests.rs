use bytes::BytesMut;
use proptest::prelude::*;
use ringcast_proto::Millis;

use super::*;

const NOW: Millis = Millis(1_000_000);
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame: first byte, then the shortest length, the mask and the payload under it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_header(&mut out, Opcode::Text, payload.len());
    (out[0], out[1]) = (first, out[1] | 0x80);
    out.extend(MASK);
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[start..], MASK, 0);
    out
}

fn text(payload: &str) -> Vec<u8> {
    frame(0x81, payload.as_bytes())
}

type Outcome = (Vec<Event>, Result<(), u16>);

/// Feeds `pieces` one by one until they or the decoder's patience end.
fn decode<'a>(max: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut decoder, mut events) = (Decoder::new(max), Vec::new());
    for mut piece in pieces {
        loop {
            match decoder.next(&mut piece, &mut BytesMut::new(), NOW) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(violation) => return (events, Err(violation.code)),
            }
        }
        assert!(piece.is_empty(), "None means that everything was taken");
    }
    (events, Ok(()))
}

fn check(input: &[u8], events: &[Event], code: Option<u16>) {
    let expected = (events.to_vec(), code.map_or(Ok(()), Err));
    assert_eq!(decode(64 * 1024, [input]), expected, "in one piece");
    assert_eq!(decode(64 * 1024, input.chunks(1)), expected, "byte by byte");
}

fn refused(code: u16, inputs: &[&[u8]]) {
    for input in inputs {
        check(input, &[], Some(code));
    }
}

#[test]
fn messages_of_every_length_form_are_read() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
        let payload = vec![b'x'; len];
        check(
            &frame(0x81, &payload),
            &[Event::Text(payload.clone().into())],
            None,
        );
        check(&frame(0x82, &payload), &[Event::Binary(payload.into())], None);
    }
}

#[test]
fn c7_fragments_are_put_together_and_control_frames_may_come_between() {
    let input = [
        frame(0x01, "mö".as_bytes()),
        frame(0x89, b"hi"),
        frame(0x00, b""),
        frame(0x80, b"re"),
    ]
    .concat();
    check(
        &input,
        &[Event::Ping("hi".into()), Event::Text("möre".into())],
        None,
    );
}

#[test]
fn hostile_19_unmasked() {
    refused(1002, &[&[0x81, 0x02, b'h', b'i'], &[0x81, 0x00]]);
}

#[test]
fn hostile_20_21_reserved_bits_and_opcodes() {
    for first in [
        0xc1, 0xa1, 0x91, 0xf1, 0x83, 0x84, 0x85, 0x86, 0x87, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f,
    ] {
        refused(1002, &[&frame(first, b"x")]);
    }
}

#[test]
fn hostile_22_control_frames_are_whole_and_short() {
    refused(
        1002,
        &[
            &frame(0x09, b"x"),
            &frame(0x08, b""),
            &frame(0x89, &[b'x'; 126]),
            &frame(0x8a, &[b'x'; 126]),
        ],
    );
    check(
        &frame(0x89, &[b'x'; 125]),
        &[Event::Ping(vec![b'x'; 125].into())],
        None,
    );
}

#[test]
fn hostile_23_fragments_in_the_wrong_place() {
    refused(1002, &[&frame(0x80, b"x"), &frame(0x00, b"x")]);
    refused(
        1002,
        &[
            &[frame(0x01, b"x"), frame(0x81, b"y")].concat(),
            &[frame(0x02, b"x"), frame(0x01, b"y")].concat(),
        ],
    );
}

#[test]
fn hostile_24_30_absurd_lengths_are_refused_before_their_payload() {
    let announced = |len: u64| [&[0x82, 0xff][..], &len.to_be_bytes(), &MASK].concat();
    refused(1002, &[&announced(1 << 63), &announced(u64::MAX)]);
    refused(1009, &[&announced((1 << 63) - 1), &announced(65_537)]);
    let whole = frame(0x82, &[0; 65_536]);
    assert_eq!(decode(65_535, [&whole[..]]), (vec![], Err(1009)));
    let fragmented = [frame(0x02, &[0; 40_000]), frame(0x80, &[0; 25_537])].concat();
    refused(1009, &[&fragmented]);
}

#[test]
fn hostile_25_a_length_has_one_form() {
    let sixteen = [&[0x82, 0xfe, 0, 125][..], &MASK, &[0; 125]].concat();
    let sixty_four = [&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff][..], &MASK].concat();
    refused(1002, &[&sixteen, &sixty_four]);
}

#[test]
fn hostile_26_at_most_64_fragments() {
    let fragments = |count: usize| {
        [
            frame(0x01, b"x"),
            frame(0x00, b"").repeat(count - 2),
            frame(0x80, b""),
        ]
        .concat()
    };
    check(&fragments(64), &[Event::Text("x".into())], None);
    refused(
        1008,
        &[
            &fragments(65),
            &[frame(0x01, b"x"), frame(0x00, b"").repeat(10_000)].concat(),
        ],
    );
}

#[test]
fn hostile_27_a_message_never_finished() {
    for unfinished in [
        &[0x81][..],
        &frame(0x81, b"hello")[..8],
        &frame(0x01, b"hello"),
        &frame(0x89, b"hello")[..8],
    ] {
        let mut decoder = Decoder::new(100);
        assert_eq!(decoder.deadline(), None);
        assert_eq!(
            decoder.next(&mut &unfinished[..], &mut BytesMut::new(), NOW),
            Ok(None)
        );
        assert_eq!(decoder.deadline(), Some(NOW + UNFINISHED_MAX));
        let later = NOW + UNFINISHED_MAX / 2;
        if unfinished == frame(0x01, b"hello") {
            let ping = decoder.next(&mut &frame(0x89, b"")[..], &mut BytesMut::new(), later);
            assert_eq!(
                ping,
                Ok(Some(Event::Ping("".into()))),
                "a ping in between buys no time"
            );
        }
        assert_eq!(decoder.check(later), Ok(()));
        assert_eq!(decoder.check(NOW + UNFINISHED_MAX).unwrap_err().code, 1008);
    }
}

#[test]
fn a_finished_message_or_a_server_that_did_not_read_clears_the_deadline() {
    let mut decoder = Decoder::new(100);
    let (head, tail) = (&text("hello")[..7], &text("hello")[7..]);
    assert_eq!(decoder.next(&mut &head[..], &mut BytesMut::new(), NOW), Ok(None));
    decoder.forgive(NOW + UNFINISHED_MAX);
    assert_eq!(decoder.check(NOW + UNFINISHED_MAX), Ok(()));
    assert_eq!(
        decoder.next(&mut &tail[..], &mut BytesMut::new(), NOW + UNFINISHED_MAX),
        Ok(Some(Event::Text("hello".into())))
    );
    assert_eq!(decoder.deadline(), None);
}

#[test]
fn hostile_28_text_must_be_utf8() {
    let bad: [&[u8]; 6] = [
        b"\xff",
        b"abc\x80",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"cut \xe2\x82",
    ];
    for payload in bad {
        refused(1007, &[&frame(0x81, payload)]);
        check(
            &frame(0x82, payload),
            &[Event::Binary(payload.to_vec().into())],
            None,
        );
    }
    let euro = "€".as_bytes();
    let split = [
        frame(0x01, &euro[..1]),
        frame(0x00, &euro[1..2]),
        frame(0x80, &euro[2..]),
    ]
    .concat();
    check(&split, &[Event::Text("€".into())], None);
    refused(1007, &[&[frame(0x01, &euro[..2]), frame(0x80, b"x")].concat()]);
}

#[test]
fn bad_text_is_noticed_before_its_message_ends() {
    let unfinished = frame(0x81, b"\xffxxxxx");
    assert_eq!(decode(100, [&unfinished[..8]]), (vec![], Err(1007)));
}

#[test]
fn hostile_29_close_payloads() {
    let close_with = |code: u16, reason: &[u8]| frame(0x88, &[&code.to_be_bytes()[..], reason].concat());
    refused(1002, &[&frame(0x88, b"\x03")]);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        refused(1002, &[&close_with(code, b"")]);
    }
    refused(1007, &[&close_with(1000, b"\xff")]);
    for code in [1000, 1001, 1011, 1014, 3000, 4000, 4999] {
        check(
            &close_with(code, b"bye"),
            &[Event::Close {
                code: Some(code),
                reason: "bye".into(),
            }],
            None,
        );
    }
    check(
        &frame(0x88, b""),
        &[Event::Close {
            code: None,
            reason: "".into(),
        }],
        None,
    );
}

#[test]
fn hostile_34_what_follows_a_close_is_ignored() {
    let input = [frame(0x88, b""), text("more"), vec![0xff; 40]].concat();
    check(
        &input,
        &[Event::Close {
            code: None,
            reason: "".into(),
        }],
        None,
    );
}

#[test]
fn hostile_31_a_flood_of_pings() {
    let (events, outcome) = decode(100, [&frame(0x89, b"").repeat(10_000)[..]]);
    assert_eq!((events.len() as u64, outcome), (PINGS_BURST, Err(1008)));
    let mut decoder = Decoder::new(100);
    for number in 0..1000 {
        let now = NOW + std::time::Duration::from_millis(number * 1000 / PINGS_PER_SECOND);
        assert_eq!(
            decoder.next(&mut &frame(0x89, b"")[..], &mut BytesMut::new(), now),
            Ok(Some(Event::Ping("".into()))),
            "ten a second"
        );
    }
}

#[test]
fn server_frames_are_as_rfc_6455_shows_them() {
    assert_eq!(&close(None, "")[..], [0x88, 0]);
    assert_eq!(&close(Some(1012), "drain")[..], b"\x88\x07\x03\xf4drain");
    assert_eq!(&pong(b"Hello")[..], b"\x8a\x05Hello");
    let long = close(Some(1008), &"ö".repeat(100));
    assert_eq!((long.len(), long[1]), (2 + 124, 124), "cut between characters");
    let header = |len| {
        let mut out = Vec::new();
        write_header(&mut out, Opcode::Binary, len);
        out
    };
    assert_eq!(header(125), [0x82, 125]);
    assert_eq!(header(126), [0x82, 126, 0, 126]);
    assert_eq!(header(65_536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
}

/// Frames of all kinds, right and wrong, and bytes that are none.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let any_frame = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..140))
        .prop_map(|(first, body)| frame(first, &body));
    let message = "\\PC{0,100}".prop_map(|body| text(&body));
    let fragments = "\\PC{2,50}".prop_map(|body| {
        let (head, tail) = body.as_bytes().split_at(body.len() / 2);
        [frame(0x01, head), frame(0x89, b"ping"), frame(0x80, tail)].concat()
    });
    let noise = prop::collection::vec(any::<u8>(), 0..20);
    let piece = prop_oneof![4 => message, 4 => fragments, 1 => any_frame, 1 => noise];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_events(bytes in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
        prop_assert_eq!(decode(300, pieces), decode(300, [&bytes[..]]));
    }

    #[test]
    fn no_bytes_make_it_panic_or_hold_more_than_it_may(bytes: Vec<u8>) {
        let (events, _) = decode(64, bytes.chunks(7));
        for event in events {
            if let Event::Text(message) | Event::Binary(message) = event {
                prop_assert!(message.len() <= 64);
            }
        }
    }
}
