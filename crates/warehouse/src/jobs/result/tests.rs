use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use base::{JobId, ProductId, SeededEntropy};
use flate2::bufread::GzDecoder;
use seal::{DataKey, FRAME_LEN, open_frames, sealed_len};

use super::writer::{CHUNK, RowWriter};
use super::*;

const NO_LIMIT: u64 = u64::MAX;

fn key() -> DataKey {
    DataKey::generate(&SeededEntropy::new(4))
}

/// Rows whose text does not compress.
fn batch(seed: u64, rows: usize) -> RecordBatch {
    let mut noise = vec![0; rows * 30];
    base::Entropy::fill(&SeededEntropy::new(seed), &mut noise);
    let texts: StringArray = noise.chunks(30).map(|bytes| Some(hex(bytes))).collect();
    let numbers: Int64Array = (0..rows as i64).collect();
    RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef), ("text", Arc::new(texts))]).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn inflated(gzip: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(gzip).read_to_end(&mut plain).unwrap();
    plain
}

fn packed(batches: &[RecordBatch]) -> Vec<u8> {
    let mut plain = Vec::new();
    batches.iter().for_each(|batch| events::encode_arrays(batch, &mut plain).unwrap());
    plain
}

/// A disk that takes so many bytes, and remembers the longest write.
struct Disk {
    room: usize,
    taken: u64,
    longest: usize,
}

impl Disk {
    fn with(room: usize) -> Self {
        Self {
            room,
            taken: 0,
            longest: 0,
        }
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.longest = self.longest.max(bytes.len());
        self.room = self.room.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
        self.taken += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn opened(directory: &Path, kept: impl IntoIterator<Item = u64>) -> ResultFiles {
    let kept: HashSet<JobId> = kept.into_iter().map(JobId).collect();
    let all = Room::of_all(NO_LIMIT, directory);
    ResultFiles::open(directory.join("results"), ProductId::new(1).unwrap(), kept, NO_LIMIT, &all)
        .await
        .unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("results")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Writes these rows as a job's result; how long it is.
async fn kept(files: &ResultFiles, job: u64, batches: &[RecordBatch]) -> u64 {
    let mut writer = files.begin(JobId(job), key(), NO_LIMIT).await.unwrap();
    batches.iter().for_each(|batch| writer.add(batch).unwrap());
    let (rows, bytes) = writer.finish().unwrap().keep().unwrap();
    assert_eq!(rows, batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>());
    bytes
}

#[tokio::test]
async fn what_is_kept_is_the_gzip_of_the_rows_in_exactly_the_length_that_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let files = opened(directory.path(), []).await;
    for (job, batches) in [
        (1, vec![]),
        (2, vec![batch(1, 1)]),
        (3, vec![batch(2, 20_000), batch(3, 7), batch(4, 20_000)]),
    ] {
        let bytes = kept(&files, job, &batches).await;

        let sealed = std::fs::read(files.path(JobId(job), "sealed")).unwrap();
        assert_eq!(sealed.len() as u64, sealed_len(bytes));
        let gzip = open_frames(&key(), &files.context(JobId(job)), &sealed).unwrap();
        assert_eq!(gzip.len() as u64, bytes);
        assert!(inflated(&gzip) == packed(&batches), "job {job}");
    }
}

#[tokio::test]
async fn every_range_of_a_kept_result_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    let files = opened(directory.path(), []).await;
    let total = kept(&files, 7, &[batch(1, 50_000), batch(2, 20_000)]).await;
    assert!(total > 2 * PART + FRAME_LEN, "{total}");
    let sealed = std::fs::read(files.path(JobId(7), "sealed")).unwrap();
    let gzip = open_frames(&key(), &files.context(JobId(7)), &sealed).unwrap();

    for range in [
        0..1,
        0..total,
        5..FRAME_LEN,
        FRAME_LEN..FRAME_LEN + 1,
        FRAME_LEN - 1..2 * FRAME_LEN + 1,
        PART - 1..PART + 1,
        PART..2 * PART,
        PART - 3..2 * PART + 3,
        total - 1..total,
    ] {
        let read = files.read(JobId(7), &key(), range.clone(), total).await.unwrap();
        assert!(read == gzip[range.start as usize..range.end as usize], "{range:?}");
    }
    // Another job's file in its place does not open.
    std::fs::copy(files.path(JobId(7), "sealed"), files.path(JobId(8), "sealed")).unwrap();
    let refused = files.read(JobId(8), &key(), 0..1, total).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    files.remove(JobId(8)).await;
    let gone = files.read(JobId(8), &key(), 0..1, total).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[test]
fn a_writer_holds_the_same_however_much_goes_through_it() {
    let mut writer = RowWriter::new(Disk::with(usize::MAX), &key(), b"context", NO_LIMIT);
    let mut most = 0;
    for seed in 0..40 {
        // A batch far larger than what is held of it at a time.
        writer.add(&batch(seed, 20_000)).unwrap();
        most = most.max(writer.held());
    }
    let (disk, written) = writer.finish().unwrap();

    assert_eq!((written.rows, disk.taken), (800_000, sealed_len(written.bytes)));
    assert!(written.bytes > 20 << 20, "{}", written.bytes);
    assert!(most < 1 << 20, "{most} bytes were held");
    assert!(disk.longest <= 2 * sealed_len(FRAME_LEN) as usize, "{} bytes at once", disk.longest);
}

#[test]
fn a_long_row_gives_its_memory_back() {
    let long = "x".repeat(8 * CHUNK);
    let text = |text: &str| RecordBatch::try_from_iter([("v", Arc::new(StringArray::from(vec![text])) as ArrayRef)]).unwrap();
    let mut writer = RowWriter::new(Disk::with(usize::MAX), &key(), b"context", NO_LIMIT);
    writer.add(&text(&long)).unwrap();
    writer.add(&text("short")).unwrap();
    assert!(writer.held() < 1 << 20, "{}", writer.held());
}

#[test]
fn a_result_keeps_to_its_limit_and_the_error_says_what_to_do() {
    let rows = batch(1, 20_000);
    let length = |limit| {
        let mut writer = RowWriter::new(Disk::with(usize::MAX), &key(), b"context", limit);
        writer.add(&rows)?;
        writer.finish().map(|(_, written)| written.bytes)
    };
    let exact = length(NO_LIMIT).unwrap();
    assert_eq!(length(exact).unwrap(), exact);
    for limit in [exact - 1, 100_000, 0] {
        let refused = length(limit).unwrap_err();
        assert_eq!((refused.kind(), refused.is_advice()), (ErrorKind::TooLarge, true));
        assert!(refused.to_string().contains("add a LIMIT"), "{refused}");
    }
}

#[test]
fn wherever_the_disk_is_full_it_is_said_and_may_be_tried_again() {
    let rows = batch(1, 5_000);
    let mut needed = 0;
    for room in (0..).step_by(50_000) {
        let mut writer = RowWriter::new(Disk::with(room), &key(), b"context", NO_LIMIT);
        let Err(error) = writer.add(&rows).and_then(|()| writer.finish().map(drop)) else {
            needed = room;
            break;
        };
        assert_eq!((error.kind(), error.is_advice()), (ErrorKind::Unavailable, true), "{room}");
        assert!(error.to_string().contains("disk is full"), "{error}");
    }
    assert!(needed > 100_000, "{needed}");
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let files = opened(directory.path(), []).await;
    // What is written through here goes to a device that is always full.
    std::os::unix::fs::symlink("/dev/full", files.path(JobId(7), "new")).unwrap();
    let mut writer = files.begin(JobId(7), key(), NO_LIMIT).await.unwrap();

    let error = writer.add(&batch(1, 20_000)).unwrap_err();

    assert!(matches!(error, ResultError::Full(_)), "{error:?}");
    drop(writer);
    assert_eq!(names(directory.path()), [""; 0]);
}

#[tokio::test]
async fn only_a_result_that_was_finished_and_kept_stays() {
    let directory = tempfile::tempdir().unwrap();
    let files = opened(directory.path(), []).await;
    let mut writer = files.begin(JobId(1), key(), NO_LIMIT).await.unwrap();
    writer.add(&batch(1, 20_000)).unwrap();
    assert_eq!(names(directory.path()), ["1.new"]);
    drop(writer);
    assert_eq!(names(directory.path()), [""; 0], "the query failed");

    let writer = files.begin(JobId(2), key(), NO_LIMIT).await.unwrap();
    drop(writer.finish().unwrap());
    assert_eq!(names(directory.path()), [""; 0], "the job was stopped at the last moment");

    kept(&files, 3, &[batch(1, 10)]).await;
    assert_eq!(names(directory.path()), ["3.sealed"]);
    files.remove(JobId(3)).await;
    assert_eq!(names(directory.path()), [""; 0]);
}

#[tokio::test]
async fn what_a_crash_left_is_swept_and_what_jobs_have_stays() {
    let directory = tempfile::tempdir().unwrap();
    let files = opened(directory.path(), []).await;
    let total = kept(&files, 1, &[batch(1, 10)]).await;
    kept(&files, 2, &[batch(1, 10)]).await;
    // A kill runs no destructor.
    std::mem::forget(files.begin(JobId(3), key(), NO_LIMIT).await.unwrap());
    assert_eq!(names(directory.path()), ["1.sealed", "2.sealed", "3.new"]);

    let files = opened(directory.path(), [1, 3]).await;

    assert_eq!(names(directory.path()), ["1.sealed"], "job 2 was not noted as done");
    assert!(files.read(JobId(1), &key(), 0..total, total).await.is_ok());
}
