//! The files by themselves: adopted, shared, full, damaged.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use domain::{
    id::{InstanceId, TurnId},
    turn::Settlement,
};
use support::process::Scratch;

use super::{
    SPILL_BYTES_MAX, SpillError,
    files::{Files, Frames, REFUSED_BYTES_MAX},
    frame,
};
use crate::{
    clock::fresh_id,
    db::contract::samples::{begin, settlement},
};

fn some(count: usize) -> Vec<Settlement> {
    (0..count).map(|number| settlement(&begin(fresh_id()), &format!("answer {number}"))).collect()
}

fn frames(settlements: &[Settlement]) -> Frames {
    let frames = Frames::of(settlements.iter(), u64::MAX);
    assert_eq!(frames.records, settlements.len());
    frames
}

fn files(scratch: &Scratch) -> Files {
    Files::new(scratch.path().join("data"), SPILL_BYTES_MAX)
}

fn keep(files: &mut Files, settlements: &[Settlement]) {
    assert!(files.append(&[frames(settlements)]).iter().all(Result::is_ok));
}

fn turns(settlements: impl IntoIterator<Item = Settlement>) -> Vec<TurnId> {
    settlements.into_iter().map(|settlement| settlement.turn).collect()
}

/// All that the database would be given, until nothing is left.
fn drained(files: &mut Files) -> Vec<TurnId> {
    let mut given = Vec::new();
    while let Some(oldest) = files.oldest() {
        let oldest = oldest.unwrap();
        files.replayed(oldest.len());
        given.extend(turns(oldest));
        // Whether the file is gone is looked at by the tests themselves.
        let _ = files.done_with_oldest();
    }
    given
}

fn names(scratch: &Scratch, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(scratch.path().join("data/spill")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_a_process_left_is_adopted_in_order_by_the_next_and_then_gone() {
    let scratch = Scratch::new("spill", None).unwrap();
    let written = some(5);
    let mut dead = files(&scratch);
    keep(&mut dead, &written[..2]);
    // The first file is read while the second one grows.
    assert_eq!(turns(dead.oldest().unwrap().unwrap()), turns(written[..2].to_vec()));
    keep(&mut dead, &written[2..]);
    let left = names(&scratch, "spill");
    assert_eq!(left.len(), 2);
    assert_eq!(mode(&scratch.path().join("data/spill")), 0o700);
    assert!(left.iter().all(|file| mode(file) == 0o600));
    drop(dead);

    let mut next = files(&scratch);
    assert_eq!(next.adopt().0, 5);
    assert_eq!(next.bytes(), left.iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>());
    assert_eq!(drained(&mut next), turns(written));
    assert_eq!((next.bytes(), names(&scratch, "spill").len()), (0, 0));
}

#[test]
fn two_services_on_one_disk_leave_each_others_files_alone() {
    let scratch = Scratch::new("spill", None).unwrap();
    let (mut one, mut other) = (files(&scratch), files(&scratch));
    let [mine, yours] = [some(1), some(1)];
    keep(&mut one, &mine);
    assert_eq!(other.adopt().0, 0, "its owner lives");
    keep(&mut other, &yours);
    assert_eq!(drained(&mut other), turns(yours));
    drop(one);
    assert_eq!(other.adopt().0, 1, "its owner is gone");
    assert_eq!(drained(&mut other), turns(mine));
}

#[test]
fn a_file_torn_at_any_byte_gives_back_every_whole_settlement_and_is_gone() {
    let written = some(3);
    let whole = frames(&written).bytes;
    let ends: Vec<_> = (1..=3).map(|count| frames(&written[..count]).bytes.len()).collect();
    let scratch = Scratch::new("spill", None).unwrap();
    keep(&mut files(&scratch), &written);
    let [path] = &names(&scratch, "spill")[..] else { panic!("one file") };
    for length in 0..=whole.len() {
        fs::write(path, &whole[..length]).unwrap();
        let mut files = files(&scratch);
        files.adopt().1.unwrap();
        let given = drained(&mut files);
        let count = ends.iter().filter(|end| **end <= length).count();
        assert_eq!(given, turns(written[..count].to_vec()), "{length} bytes");
        assert!(!path.exists(), "{length} bytes");
    }
    assert_eq!(names(&scratch, "unread").len(), 0, "nobody was told of what was torn off");
}

#[test]
fn a_damaged_file_gives_back_the_others_and_is_set_aside() {
    let written = some(3);
    let scratch = Scratch::new("spill", None).unwrap();
    keep(&mut files(&scratch), &written);
    let [path] = &names(&scratch, "spill")[..] else { panic!("one file") };
    let mut bytes = fs::read(path).unwrap();
    let place = frames(&written[..1]).bytes.len() + 40;
    bytes[place] ^= 4;
    fs::write(path, bytes).unwrap();
    let mut next = files(&scratch);
    assert_eq!(next.adopt().0, 2);
    assert_eq!(drained(&mut next), turns([written[0].clone(), written[2].clone()]));
    assert_eq!((names(&scratch, "spill").len(), names(&scratch, "unread").len()), (0, 1));
    assert_eq!(files(&scratch).adopt().0, 0, "it is for people now");
}

#[test]
fn what_a_newer_binary_wrote_is_left_for_it() {
    let scratch = Scratch::new("spill", None).unwrap();
    keep(&mut files(&scratch), &some(1));
    let [path] = &names(&scratch, "spill")[..] else { panic!("one file") };
    let mut newer = Vec::new();
    assert!(frame::put(&[2, b'?'], &mut newer));
    fs::write(path, &newer).unwrap();
    let mut next = files(&scratch);
    assert_eq!(next.adopt().0, 1);
    assert_eq!(turns(next.oldest().unwrap().unwrap()), []);
    let (left, gone) = next.done_with_oldest();
    assert!(left == 1 && matches!(gone, Err(SpillError::Damaged(_))), "{left} {gone:?}");
    let [aside] = &names(&scratch, "unread")[..] else { panic!("one file") };
    assert_eq!(fs::read(aside).unwrap(), newer);
}

#[test]
fn what_the_database_refused_is_kept_in_one_file_that_nobody_adopts() {
    let scratch = Scratch::new("spill", None).unwrap();
    let (refused, mut here) = (some(3), files(&scratch));
    let path = here.set_aside(&refused[..1]).unwrap();
    assert_eq!(here.set_aside(&refused[1..]).unwrap(), path);
    assert_eq!((names(&scratch, "refused"), mode(&path)), (vec![path.clone()], 0o600));
    drop(here);
    assert_eq!(files(&scratch).adopt().0, 0);
    fs::rename(&path, path.with_extension("spill")).unwrap();
    let mut next = files(&scratch);
    assert_eq!(next.adopt().0, 3);
    assert_eq!(drained(&mut next), turns(refused));
}

#[test]
fn what_the_database_refused_is_bounded() {
    let scratch = Scratch::new("spill", None).unwrap();
    let path = files(&scratch).set_aside(&some(1)).unwrap();
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(REFUSED_BYTES_MAX).unwrap();
    assert!(matches!(files(&scratch).set_aside(&some(1)), Err(SpillError::Full)));
}

#[test]
fn a_directory_in_which_others_may_write_is_not_believed() {
    let scratch = Scratch::new("spill", None).unwrap();
    keep(&mut files(&scratch), &some(1));
    let dir = scratch.path().join("data/spill");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let mut next = files(&scratch);
    assert!(next.adopt().1.unwrap_err().to_string().contains("chmod 700"));
    assert!(matches!(next.append(&[frames(&some(1))])[0], Err(SpillError::Disk(_))));
}

#[test]
fn groups_that_do_not_fit_are_refused_and_smaller_ones_behind_them_are_not() {
    let scratch = Scratch::new("spill", None).unwrap();
    let (small, large) = (some(1), some(9));
    let most = frames(&small).bytes.len() as u64 * 3;
    let mut files = Files::new(scratch.path().join("data"), most);
    let done =
        files.append(&[frames(&small), frames(&large), frames(&small), frames(&small), frames(&small)]);
    let fit: Vec<_> = done.iter().map(Result::is_ok).collect();
    assert_eq!(fit, [true, false, true, true, false]);
    assert!(matches!(done[1], Err(SpillError::Full)));
    assert_eq!(files.bytes(), most);
    assert_eq!(drained(&mut files), turns([small[0].clone(), small[0].clone(), small[0].clone()]));
    assert_eq!(files.bytes(), 0);
    keep(&mut files, &small);
}

/// As on a disk that fills up in the middle of a record: the kernel writes a part of it, and then refuses.
#[test]
fn a_record_that_was_half_written_when_the_disk_was_full_costs_none_of_the_others() {
    let limited =
        "trap '' XFSZ; ulimit -f 16; exec \"$0\" --ignored --exact db::spill::tests::fills_its_disk";
    let test = std::env::current_exe().unwrap();
    let run = Command::new("/bin/sh").args(["-c", limited]).arg(test).output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by the test above, in a process that may write no large file"]
fn fills_its_disk() {
    let scratch = Scratch::new("spill-full", None).unwrap();
    let mut files = files(&scratch);
    let mut kept = Vec::new();
    let refused = loop {
        let next = [settlement(&begin(fresh_id()), &"x".repeat(700))];
        match files.append(&[frames(&next)]).remove(0) {
            Ok(()) => kept.extend(next),
            Err(refused) => break refused,
        }
        assert!(kept.len() < 1_000, "the shell sets no limit");
    };
    assert!(matches!(refused, SpillError::Disk(_)) && kept.len() >= 3, "{refused:?} after {}", kept.len());
    let [path] = &names(&scratch, "spill")[..] else { panic!("one file") };
    assert_eq!(fs::metadata(path).unwrap().len(), frames(&kept).bytes.len() as u64, "no half is left");
    // Another file has room again.
    let after = some(1);
    keep(&mut files, &after);
    kept.extend(after);
    assert_eq!(drained(&mut files), turns(kept));
}

#[test]
fn files_are_of_a_size_that_can_be_read_at_once() {
    let scratch = Scratch::new("spill", None).unwrap();
    let mut files = files(&scratch);
    let text = "x".repeat(1024 * 1024);
    let written: Vec<_> = (0..9).map(|_| settlement(&begin(fresh_id()), &text)).collect();
    for settlement in &written {
        keep(&mut files, std::slice::from_ref(settlement));
    }
    assert_eq!(names(&scratch, "spill").len(), 3);
    assert_eq!(drained(&mut files), turns(written));
}

#[test]
fn names_of_files_never_meet() {
    let scratch = Scratch::new("spill", None).unwrap();
    let mut all: Vec<_> = (0..20).map(|_| files(&scratch)).collect();
    for files in &mut all {
        keep(files, &some(1));
    }
    let names: HashSet<_> = names(&scratch, "spill").into_iter().collect();
    assert_eq!(names.len(), 20);
    let ids = names.iter().map(|path| path.file_stem().unwrap().to_str().unwrap().parse::<InstanceId>());
    assert!(ids.into_iter().all(|id| id.is_ok()));
}
