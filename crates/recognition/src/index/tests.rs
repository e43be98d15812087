use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const EXTRACTOR: &str = "test";

/// Landmarks of a track that are nobody else's, nearly: the same for the same seed.
fn track(seed: u32, frames: u32) -> IndexedTrack {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((u64::from(state >> 4) * u64::from(below)) >> 28) as u32
    };
    let landmarks = (0..frames).flat_map(|frame| [frame, frame].map(|frame| Landmark { code: random(1 << 23), frame }));
    IndexedTrack { id: format!("track-{seed}"), version: "1".to_owned(), landmarks: landmarks.collect(), frames }
}

/// The part of a track's landmarks that a clip has.
fn clip(track: &IndexedTrack, from: u32, length: u32) -> Vec<Landmark> {
    let inside = track.landmarks.iter().filter(|mark| (from..from + length).contains(&mark.frame));
    inside.map(|mark| Landmark { code: mark.code, frame: mark.frame - from }).collect()
}

fn writer(folder: &Path) -> IndexWriter {
    IndexWriter::open(folder, EXTRACTOR, false).expect("a writer")
}

fn index(folder: &Path) -> LandmarkIndex {
    LandmarkIndex::open(folder, EXTRACTOR).expect("an index").expect("an index")
}

fn best(index: &LandmarkIndex, landmarks: &[Landmark]) -> Option<(String, i64)> {
    index.find(landmarks).expect("a search").into_iter().next().map(|found| (found.id, found.frame))
}

#[test]
fn a_clip_is_found_in_its_track_at_its_place_in_every_segment() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = writer(folder.path());
    for seed in 0..40 {
        writer.add(track(seed, 500 + seed * 7)).expect("added");
        // Segments of different sizes, merged as they come.
        if seed % 3 == 0 {
            writer.commit().expect("committed");
        }
    }
    let summary = writer.finish().expect("finished");
    assert_eq!((summary.tracks, summary.failed), (40, 0));
    assert!(summary.segments <= 6, "{} segments", summary.segments);
    let index = index(folder.path());
    assert_eq!(index.tracks(), 40);
    for seed in 0..40 {
        let whole = track(seed, 500 + seed * 7);
        assert_eq!(best(&index, &clip(&whole, 123, 200)), Some((whole.id.clone(), 123)));
        // What was recorded begins before the track does.
        let early: Vec<Landmark> =
            clip(&whole, 0, 200).iter().map(|mark| Landmark { frame: mark.frame + 77, ..*mark }).collect();
        assert_eq!(best(&index, &early), Some((whole.id, -77)));
    }
    assert_eq!(best(&index, &clip(&track(99, 500), 0, 500)), None);
}

#[test]
fn a_changed_track_takes_the_place_of_the_old_one_and_a_removed_one_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = writer(folder.path());
    (0..8).for_each(|seed| first.add(track(seed, 400)).expect("added"));
    first.finish().expect("finished");
    let mut second = writer(folder.path());
    assert_eq!(second.version("track-3"), Some("1"));
    let changed = IndexedTrack { id: "track-3".to_owned(), version: "2".to_owned(), ..track(50, 300) };
    second.add(changed.clone()).expect("added");
    second.remove("track-4");
    second.fail("track-5", "2".to_owned(), "it is damaged".to_owned());
    let before = index(folder.path());
    let summary = second.finish().expect("finished");
    assert_eq!((summary.tracks, summary.failed), (6, 1));
    // An index that was open goes on as it was.
    assert_eq!(best(&before, &clip(&track(4, 400), 100, 200)), Some(("track-4".to_owned(), 100)));
    let after = index(folder.path());
    assert_eq!(best(&after, &clip(&changed, 50, 200)), Some(("track-3".to_owned(), 50)));
    for seed in [3, 4, 5] {
        assert_eq!(best(&after, &clip(&track(seed, 400), 100, 200)), None, "{seed}");
    }
    assert_eq!(best(&after, &clip(&track(6, 400), 100, 200)), Some(("track-6".to_owned(), 100)));
    let third = writer(folder.path());
    assert_eq!(
        (third.version("track-3"), third.version("track-4"), third.version("track-5")),
        (Some("2"), None, Some("2"))
    );
    assert_eq!(third.failures().collect::<Vec<_>>(), [("track-5", "it is damaged")]);
    assert_eq!(third.ids().collect::<BTreeSet<_>>().len(), 7);
}

#[test]
fn what_was_not_committed_is_as_if_it_had_not_been_begun() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = writer(folder.path());
    first.add(track(1, 400)).expect("added");
    first.commit().expect("committed");
    first.add(track(2, 400)).expect("added");
    assert!(matches!(IndexWriter::open(folder.path(), EXTRACTOR, false), Err(IndexWriterError::Locked)));
    drop(first);
    // A file that was begun, and of which the list says nothing.
    fs::write(folder.path().join("00000007.landmarks"), b"half").expect("written");
    let second = writer(folder.path());
    assert_eq!((second.version("track-1"), second.version("track-2")), (Some("1"), None));
    assert!(!folder.path().join("00000007.landmarks").exists());
}

#[test]
fn an_index_of_another_extractor_is_none_and_is_replaced_as_a_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = writer(folder.path());
    first.add(track(1, 400)).expect("added");
    first.finish().expect("finished");
    assert!(LandmarkIndex::open(folder.path(), "other").expect("read").is_none());
    let mut second = IndexWriter::open(folder.path(), "other", false).expect("a writer");
    assert_eq!(second.ids().count(), 0);
    // Until the new one is in force the old one answers.
    assert!(best(&index(folder.path()), &clip(&track(1, 400), 0, 200)).is_some());
    second.add(track(2, 400)).expect("added");
    second.finish().expect("finished");
    assert!(LandmarkIndex::open(folder.path(), EXTRACTOR).expect("read").is_none());
    assert_eq!(LandmarkIndex::open(folder.path(), "other").expect("read").map(|index| index.tracks()), Some(1));
}

#[test]
fn a_folder_is_followed_as_the_index_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let followed = IndexFolder::new(folder.path().to_owned(), EXTRACTOR);
    assert!(followed.current().expect("read").is_none());
    for count in 1..=5_u32 {
        let mut writer = writer(folder.path());
        writer.add(track(count, 300)).expect("added");
        writer.finish().expect("finished");
        let tracks = followed.current().expect("read").map(|index| index.tracks());
        assert_eq!(tracks, usize::try_from(count).ok());
    }
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = writer(folder.path());
    first.add(track(1, 400)).expect("added");
    first.finish().expect("finished");
    let path = folder.path().join("00000001.landmarks");
    let whole = fs::read(&path).expect("a file");
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).expect("written");
        assert!(Segment::open(&path).is_err(), "{length} bytes");
    }
    for at in [whole.len() - 1, whole.len() - 60, whole.len() - 200] {
        let mut bad = whole.clone();
        bad[at] ^= 0x55;
        fs::write(&path, &bad).expect("written");
        assert!(Segment::open(&path).is_err(), "byte {at}");
    }
}

#[test]
fn an_index_takes_less_than_600_bytes_for_a_second_of_music() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = writer(folder.path());
    // 100 landmarks a second. Music of 76 pieces has some 80 of them, whose codes are less even than these.
    (0..20).for_each(|seed| writer.add(track(seed, 12_000)).expect("added"));
    let summary = writer.finish().expect("finished");
    assert_eq!(summary.seconds, 20 * 240);
    assert!(summary.bytes < 600 * summary.seconds, "{} bytes a second", summary.bytes / summary.seconds);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_block_is_read_without_a_panic(seed in any::<u32>(), bytes in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>()) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = writer(folder.path());
        let kept = track(seed, 300);
        writer.add(kept.clone()).expect("added");
        writer.finish().expect("finished");
        let path = folder.path().join("00000001.landmarks");
        let mut file = fs::read(&path).expect("a file");
        // Blocks are before the tables, and have no checksum: they are read often, and what is wrong finds nothing.
        let start = at.index(600);
        file[start..start + bytes.len()].copy_from_slice(&bytes);
        fs::write(&path, &file).expect("written");
        if let Ok(Some(index)) = LandmarkIndex::open(folder.path(), EXTRACTOR) {
            let _ = index.find(&clip(&kept, 0, 300));
        }
    }
}
