use super::*;

const PASTE_BYTES_MAX: usize = 2 << 20;

fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut keys = VecDeque::new();
    let mut decoder = Decoder::new(PASTE_BYTES_MAX);
    decoder.feed(bytes, &mut keys);
    assert_eq!(decoder.pending(), None, "{bytes:?} is complete");
    keys.into()
}

#[test]
fn decodes_keys() {
    let table: &[(&[u8], Key)] = &[
        (b"a", Key::Char('a')),
        ("é".as_bytes(), Key::Char('é')),
        ("😀".as_bytes(), Key::Char('😀')),
        (b"\r", Key::Enter),
        (b"\n", Key::Newline),
        (b"\x1b\r", Key::Newline),
        (b"\x1b[13;2u", Key::Newline),
        (b"\x1b[27;5;13~", Key::Newline),
        (b"\t", Key::Tab),
        (b"\x1b[Z", Key::BackTab),
        (b"\x7f", Key::Backspace),
        (b"\x08", Key::Backspace),
        (b"\x1b\x7f", Key::EraseWord),
        (b"\x01", Key::Ctrl('a')),
        (b"\x1a", Key::Ctrl('z')),
        (b"\x1f", Key::Ctrl('_')),
        (b"\0", Key::Ctrl(' ')),
        (b"\x1b[99;5u", Key::Ctrl('c')),
        (b"\x1bb", Key::Alt('b')),
        ("\x1bé".as_bytes(), Key::Alt('é')),
        (b"\x1b[A", Key::Up),
        (b"\x1bOA", Key::Up),
        (b"\x1b[1;5C", Key::WordRight),
        (b"\x1b[1;3D", Key::WordLeft),
        (b"\x1b[1;2D", Key::Left),
        (b"\x1bOa", Key::Up),
        (b"\x1bOc", Key::WordRight),
        (b"\x1bOd", Key::WordLeft),
        (b"\x1b\x1b[C", Key::WordRight),
        (b"\x1b\x1b[D", Key::WordLeft),
        (b"\x1b\x1bOD", Key::WordLeft),
        (b"\x1b\x1b[3~", Key::DeleteWord),
        (b"\x1b[H", Key::Home),
        (b"\x1bOF", Key::End),
        (b"\x1b[1~", Key::Home),
        (b"\x1b[8~", Key::End),
        (b"\x1b[1;5H", Key::TextStart),
        (b"\x1b[3~", Key::Delete),
        (b"\x1b[3;5~", Key::DeleteWord),
        (b"\x1b[5~", Key::PageUp),
        (
            b"\x1b[24;80R",
            Key::CursorReport {
                row: 24,
                column: 80,
            },
        ),
        (b"\x1b[999~", Key::Ignored),
        (b"\x1b[99999999999999999999A", Key::Ignored),
        (b"\x1b[<0;1;1M", Key::Ignored),
        (b"\x1b[[A", Key::Ignored),
        (b"\x1bOP", Key::Ignored),
        (b"\xff", Key::Char('\u{fffd}')),
    ];
    for (bytes, key) in table {
        assert_eq!(keys(bytes), std::slice::from_ref(key), "{bytes:?}");
    }
}

#[test]
fn one_byte_at_a_time_decodes_the_same() {
    let bytes =
        "aé😀\x1b[1;5C\x1b\x1b[D\x1b\x1bx\x1b[200~x\ry\x1b[201~\x1b\rz\x1b[24;80R".as_bytes();
    let mut split = VecDeque::new();
    let mut decoder = Decoder::new(PASTE_BYTES_MAX);
    for byte in bytes {
        decoder.feed(&[*byte], &mut split);
    }
    assert_eq!(Vec::from(split), keys(bytes));
}

#[test]
fn a_pause_makes_escape_a_key() {
    for (bytes, key) in [
        (&b"\x1b"[..], Key::Esc),
        (b"\x1bO", Key::Alt('O')),
        (b"\xe2\x82", Key::Char('\u{fffd}')),
    ] {
        let mut keys = VecDeque::new();
        let mut decoder = Decoder::new(PASTE_BYTES_MAX);
        decoder.feed(bytes, &mut keys);
        assert_eq!(decoder.pending(), Some(Pending::Key));
        assert!(keys.is_empty());
        decoder.flush(&mut keys);
        assert_eq!(Vec::from(keys), [key]);
    }
}

#[test]
fn an_escape_before_what_alt_changes_nothing_of_is_a_key() {
    let esc = |key| vec![Key::Esc, key];
    for (bytes, keys_then) in [
        (&b"\x1b\x1b[A"[..], esc(Key::Up)),
        (b"\x1b\x1bx", esc(Key::Alt('x'))),
        (b"\x1b\x1b\r", esc(Key::Newline)),
        (b"\x1b\x1b[200~a\x1b[201~", esc(Key::Paste("a".to_owned()))),
        (b"\x1b\x1b\x1b[D", esc(Key::WordLeft)),
    ] {
        assert_eq!(keys(bytes), keys_then, "{bytes:?}");
    }
    // Pauses make keys of all of them, and a mark may still come in pieces.
    let esc = Key::Esc;
    let paste = Key::Paste("a".to_owned());
    let pieces: &[&[u8]] = &[b"\x1b\x1b", b"[20", b"0~a\x1b[201~"];
    assert_eq!(slowly(pieces).0, [esc.clone(), paste.clone()]);
    let pieces: &[&[u8]] = &[b"\x1b\x1b[20", b"0~a\x1b[201~"];
    assert_eq!(slowly(pieces).0, [esc.clone(), paste]);
    let (mut keys, mut decoder) = (VecDeque::new(), Decoder::new(PASTE_BYTES_MAX));
    decoder.feed(b"\x1b\x1b", &mut keys);
    while decoder.pending() == Some(Pending::Key) {
        decoder.flush(&mut keys);
    }
    assert_eq!(Vec::from(keys), [esc.clone(), esc]);
    // Nor do many take long, or much of the stack.
    let (mut keys, mut decoder) = (VecDeque::new(), Decoder::new(PASTE_BYTES_MAX));
    decoder.feed(&vec![0x1b; 1 << 20], &mut keys);
    assert_eq!(keys.len(), (1 << 20) - 2);
}

#[test]
fn a_longer_pause_ends_a_mark() {
    for (bytes, key) in [(&b"\x1b["[..], Key::Alt('[')), (b"\x1b[1;", Key::Ignored)] {
        let mut keys = VecDeque::new();
        let mut decoder = Decoder::new(PASTE_BYTES_MAX);
        decoder.feed(bytes, &mut keys);
        assert_eq!(decoder.pending(), Some(Pending::Mark));
        decoder.flush(&mut keys);
        assert_eq!(Vec::from(keys), [key]);
        assert_eq!(decoder.pending(), None);
    }
}

/// Feeds `pieces`; where a pause between two of them makes Escape the key the
/// caller has said so.
fn slowly(pieces: &[&[u8]]) -> (Vec<Key>, Decoder) {
    let mut keys = VecDeque::new();
    let mut decoder = Decoder::new(PASTE_BYTES_MAX);
    for piece in pieces {
        decoder.feed(piece, &mut keys);
        if decoder.pending() == Some(Pending::Key) {
            decoder.flush(&mut keys);
        }
    }
    (keys.into(), decoder)
}

#[test]
fn a_paste_whose_marks_come_in_pieces_is_a_paste() {
    let paste = b"\x1b[200~a\rb\x1b[201~";
    for first in 1..paste.len() {
        for second in first..paste.len() {
            let (keys, decoder) =
                slowly(&[&paste[..first], &paste[first..second], &paste[second..]]);
            let keys: Vec<Key> = keys.into_iter().filter(|key| *key != Key::Esc).collect();
            assert_eq!(keys, [Key::Paste("a\nb".to_owned())], "{first} {second}");
            assert_eq!(decoder.pending(), None);
        }
    }
    let bytes: Vec<&[u8]> = paste.chunks(1).collect();
    let escaped = [Key::Esc, Key::Paste("a\nb".to_owned())];
    assert_eq!(slowly(&bytes).0, escaped);
}

#[test]
fn a_report_that_comes_in_pieces_is_no_text() {
    let report = Key::CursorReport {
        row: 24,
        column: 80,
    };
    assert_eq!(slowly(&[b"\x1b", b"[24;8", b"0R"]).0, [Key::Esc, report]);
}

#[test]
fn escape_alone_is_a_key_and_what_is_typed_after_it_is_text() {
    let chars = |text: &str| text.chars().map(Key::Char).collect::<Vec<_>>();
    let (keys, mut decoder) = slowly(&[b"\x1b"]);
    assert_eq!(keys, [Key::Esc]);
    // The wait for a mark ends with the next key or after the pause.
    assert_eq!(decoder.pending(), Some(Pending::Mark));
    let mut keys = VecDeque::new();
    decoder.flush(&mut keys);
    assert_eq!((keys.len(), decoder.pending()), (0, None));
    for text in ["a[2", "[x]", "[A", "[200 a"] {
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        let (keys, _) = slowly(&[&[&b"\x1b"[..]], pieces.as_slice()].concat());
        assert_eq!(keys, [vec![Key::Esc], chars(text)].concat(), "{text}");
    }
    // What looks like a mark until the pause was typed.
    let (_, mut decoder) = slowly(&[b"\x1b", b"[2", b"00"]);
    let mut keys = VecDeque::new();
    decoder.flush(&mut keys);
    assert_eq!(Vec::from(keys), chars("[200"));
    // The Escape of the next key does not belong to a mark.
    assert_eq!(slowly(&[b"\x1b", b"\x1b[A"]).0, [Key::Esc, Key::Up]);
}

#[test]
fn invalid_bytes_are_not_lost() {
    assert_eq!(
        keys(b"a\xe2\x82z\xc3"[..4].as_ref()),
        [Key::Char('a'), Key::Char('\u{fffd}'), Key::Char('z')]
    );
}

#[test]
fn a_mebibyte_pastes_byte_exact_in_small_reads() {
    let text: String = (0..)
        .map(|i: u32| char::from_u32(i * 7919 % 0xd000).unwrap_or('x'))
        .filter(|c| *c != '\x1b')
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= 1 << 20).then_some(c)
        })
        .collect();
    let mut bytes = PASTE_START.to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.extend_from_slice(PASTE_END);
    bytes.push(b'!');
    for read in [1, 7, 4096, usize::MAX] {
        let mut keys = VecDeque::new();
        let mut decoder = Decoder::new(PASTE_BYTES_MAX);
        for chunk in bytes.chunks(read.min(bytes.len())) {
            decoder.feed(chunk, &mut keys);
        }
        assert_eq!(keys.len(), 2);
        assert!(keys[0] == Key::Paste(text.clone()), "reads of {read}");
        assert_eq!(keys[1], Key::Char('!'));
    }
}

#[test]
fn line_ends_of_a_paste_are_restored() {
    for (sent, text) in [("a\rb\r", "a\nb\n"), ("a\nb", "a\nb"), ("a\r\nb", "a\r\nb")] {
        let bytes = [PASTE_START, sent.as_bytes(), PASTE_END].concat();
        assert_eq!(keys(&bytes), [Key::Paste(text.to_owned())]);
    }
}

#[test]
fn a_paste_that_is_too_long_is_refused_and_says_so() {
    let mut keys = VecDeque::new();
    let mut decoder = Decoder::new(PASTE_BYTES_MAX);
    decoder.feed(PASTE_START, &mut keys);
    for _ in 0..=PASTE_BYTES_MAX / 4096 {
        decoder.feed(&[b'x'; 4096], &mut keys);
    }
    decoder.feed(b"\x1b[201~a", &mut keys);
    let bytes = PASTE_BYTES_MAX + 4096;
    let problem = PasteProblem::TooLong {
        bytes,
        most: PASTE_BYTES_MAX,
    };
    assert_eq!(
        Vec::from(keys),
        [Key::PasteProblem(problem), Key::Char('a')]
    );
}

#[test]
fn a_paste_takes_no_more_memory_than_the_limit_while_it_comes() {
    let most = 100_000;
    for (piece, pieces) in [(1, 100_000), (4096, 100), (1 << 20, 3)] {
        let mut keys = VecDeque::new();
        let mut decoder = Decoder::new(most);
        decoder.feed(PASTE_START, &mut keys);
        let mut capacity = 0;
        for _ in 0..pieces {
            decoder.feed(&vec![b'x'; piece], &mut keys);
            capacity = capacity.max(decoder.paste.as_ref().unwrap().bytes.capacity());
        }
        decoder.feed(PASTE_END, &mut keys);
        assert!(capacity <= most + PASTE_END.len(), "{capacity} bytes");
        let is_taken = matches!(&keys[0], Key::Paste(text) if text.len() == most);
        assert_eq!(is_taken, piece * pieces == most);
    }
}

#[test]
fn a_paste_that_grows_by_its_signs_is_measured_with_them() {
    let mut keys = VecDeque::new();
    let mut decoder = Decoder::new(100);
    let bytes = [PASTE_START, &[0xff; 40], PASTE_END].concat();
    decoder.feed(&bytes, &mut keys);
    let problem = PasteProblem::TooLong {
        bytes: 120,
        most: 100,
    };
    assert_eq!(Vec::from(keys), [Key::PasteProblem(problem)]);
}

#[test]
fn an_endless_paste_ends_with_a_flush() {
    let mut keys = VecDeque::new();
    let mut decoder = Decoder::new(PASTE_BYTES_MAX);
    decoder.feed(b"\x1b[200~abc\x03d", &mut keys);
    assert_eq!(decoder.pending(), Some(Pending::Paste));
    decoder.flush(&mut keys);
    assert_eq!(decoder.pending(), Some(Pending::StalledPaste));
    decoder.flush(&mut keys);
    assert_eq!(
        Vec::from(keys),
        [
            Key::Paste("abc\x03d".to_owned()),
            Key::PasteProblem(PasteProblem::Unfinished)
        ]
    );
}

#[test]
fn ctrl_c_discards_an_endless_paste_at_once() {
    for piece in [b"line\r".repeat(40_000), b"x".to_vec(), Vec::new()] {
        let mut keys = VecDeque::new();
        let mut decoder = Decoder::new(PASTE_BYTES_MAX);
        decoder.feed(&[PASTE_START, &piece].concat(), &mut keys);
        decoder.flush(&mut keys);
        decoder.feed(b"\x03", &mut keys);
        let bytes = piece.len();
        let told = [
            Key::PasteProblem(PasteProblem::Discarded { bytes }),
            Key::Ctrl('c'),
        ];
        assert_eq!(Vec::from(keys), told);
        // What still comes of it is not typed; after a pause keys are keys.
        let mut keys = VecDeque::new();
        decoder.feed(b"rest\r/exit\r", &mut keys);
        assert_eq!(decoder.pending(), Some(Pending::Key));
        decoder.flush(&mut keys);
        decoder.feed(b"a", &mut keys);
        assert_eq!(Vec::from(keys), [Key::Char('a')]);
    }
    // One that goes on keeps it.
    let mut keys = VecDeque::new();
    let mut decoder = Decoder::new(PASTE_BYTES_MAX);
    for piece in [PASTE_START, b"\x03", b"a\x03", PASTE_END] {
        decoder.feed(piece, &mut keys);
    }
    assert_eq!(Vec::from(keys), [Key::Paste("\x03a\x03".to_owned())]);
}
