//! The events of a stream, however it is cut and whatever it is made of.

use proptest::{collection::vec, prelude::*};

use super::*;

const BYTES_MAX: usize = 1 << 10;

/// The events of these chunks, and whether the bound was kept to their end.
fn events<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Result<(), UpstreamError>) {
    let (mut events, mut told) = (Events::new(BYTES_MAX), Vec::new());
    let mut tell = |data: &[u8]| {
        told.push(String::from_utf8_lossy(data).into_owned());
        Ok(())
    };
    let fed = chunks.into_iter().try_for_each(|chunk| {
        let fed = events.feed(chunk, &mut tell);
        assert!(events.line.len() + events.data.len() <= BYTES_MAX, "it grew past its bound");
        fed
    });
    let ended = fed.and_then(|()| events.end(&mut tell));
    (told, ended)
}

fn whole(stream: &str) -> Vec<String> {
    let (told, ended) = events([stream.as_bytes()]);
    assert_eq!(ended, Ok(()), "{stream:?}");
    told
}

#[test]
fn an_event_is_its_data_lines_up_to_a_blank_line() {
    assert_eq!(whole("data: a\n\ndata:b\n\ndata:  c\n\n"), ["a", "b", " c"]);
    assert_eq!(whole("data: a\ndata: b\ndata\ndata:\n\n"), ["a\nb\n\n"]);
    assert_eq!(whole("data:\n\n"), [""], "an empty event is left to who reads it");
}

#[test]
fn lines_end_in_any_of_the_three_ways() {
    for end in ["\n", "\r", "\r\n"] {
        let stream = "data: a|data: b||data: c||".replace('|', end);
        assert_eq!(whole(&stream), ["a\nb", "c"], "{end:?}");
        let (torn, _) = events(stream.as_bytes().chunks(1));
        assert_eq!(torn, ["a\nb", "c"], "{end:?}, byte by byte");
    }
}

#[test]
fn comments_other_fields_and_blank_lines_say_nothing() {
    let stream = "\u{feff}: hello\n\n\n\nevent: x\nid: 1\nretry: 5\ndatum: y\n\n:\n\ndata: a\n: between\n\nevent: z\n\n";
    assert_eq!(whole(stream), ["a"]);
    assert_eq!(whole("\u{feff}data: a\n\n"), ["a"], "a byte order mark is no part of the first field");
    assert_eq!(whole("data: a\n\n\u{feff}data: b\n\n"), ["a"], "later it is");
}

#[test]
fn what_the_end_cuts_off_is_told_too() {
    for stream in ["data: a\n\ndata: [DONE]\n", "data: a\n\ndata: [DONE]", "data: a\r\n\r\ndata: [DONE]\r"] {
        assert_eq!(whole(stream), ["a", "[DONE]"], "{stream:?}");
    }
}

#[test]
fn an_event_beyond_the_bound_is_refused_however_it_comes() {
    let long = format!("data: {}", "x".repeat(BYTES_MAX));
    let many = "data: xxxxxxxxx\n".repeat(BYTES_MAX / 8);
    let comment = format!(":{}", "x".repeat(BYTES_MAX));
    for stream in [long, many, comment] {
        for size in [1, 7, 100, stream.len()] {
            let (_, ended) = events(stream.as_bytes().chunks(size));
            let refused = format!("an event of more than {BYTES_MAX} bytes");
            assert_eq!(ended, Err(UpstreamError::Garbage(refused)), "in pieces of {size}");
        }
    }
    let fits = format!("data: {}\n\n", "x".repeat(BYTES_MAX - 10)).repeat(5);
    assert_eq!(whole(&fits).len(), 5, "the bound is one event's, not the stream's");
}

#[test]
fn a_reader_that_fails_ends_it() {
    let mut told = 0;
    let failed = Events::new(BYTES_MAX).feed(b"data: a\n\ndata: b\n\n", |_| {
        told += 1;
        Err(UpstreamError::Busy)
    });
    assert_eq!((failed, told), (Err(UpstreamError::Busy), 1));
}

#[test]
fn an_event_that_lies_whole_in_a_chunk_is_not_copied() {
    let (mut events, stream) = (Events::new(BYTES_MAX), b"data: {\"a\":1}\n\n: hb\r\n\r\ndata: b\r\n\r\n");
    events
        .feed(stream, |data| {
            assert!(stream.as_ptr_range().contains(&data.as_ptr()));
            Ok(())
        })
        .unwrap();
    assert_eq!((events.line.capacity(), events.data.capacity()), (0, 0));
}

fn cut_at<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut from = 0;
    cuts.into_iter().chain([bytes.len()]).map(|cut| &bytes[std::mem::replace(&mut from, cut)..cut]).collect()
}

fn any_line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "data:? ?[a-z:é😀]{0,12}",
        2 => Just(String::new()),
        1 => ":[a-z ]{0,6}",
        1 => "[a-z]{0,4}:? ?[a-z]{0,4}",
        1 => Just("\u{feff}data: x".to_owned()),
    ]
}

proptest! {
    #[test]
    fn the_same_bytes_are_the_same_events_however_they_are_cut(
        lines in vec((any_line(), prop_oneof![Just("\n"), Just("\r"), Just("\r\n")]), 0..24),
        dropped in 0_usize..4,
        cuts in vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let stream: String = lines.into_iter().map(|(line, end)| line + end).collect();
        let bytes = &stream.as_bytes()[..stream.len().saturating_sub(dropped)];
        prop_assert_eq!(events(cut_at(bytes, &cuts)), events([bytes]));
    }

    #[test]
    fn no_bytes_make_it_panic_or_grow_past_its_bound(
        bytes in vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r'), Just(b':'), Just(b'd')], 0..4_000),
        cuts in vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let _ = events(cut_at(&bytes, &cuts));
    }
}
