//! Which files are to be merged next, and how what comes of them is divided into files.
//!
//! A file of `full` bytes or more is full. Smaller ones stand in tiers, each up to eight times the size of the one below; once a tier has
//! `fan` files they are merged, so a row is written anew a few times on its way up, however many files come in. Days that have `full` bytes
//! in files of their own have tiers of their own; all other files, also such as hold rows of many days, share theirs, so a small table
//! stays in few files. Full files are merged only where `fan` of them, each over several days, overlap at one moment.
//!
//! Before all of these, files are written anew that hold rows that should have been left out long ago.
//!
//! Knows sizes and times only, and does nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use columns::catalog::FileRecord;

/// How many files are merged at once at most.
const MOST_FILES: usize = 64;
/// How much larger the files of a tier can be than those of the one below.
const STEP: u64 = 8;
/// All files smaller than `full` by this many steps are in one tier.
const LOWEST: u32 = 3;
const DAY: i64 = 86_400;

/// What sizes files are to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// From how many bytes on a file is full. No file has more than twice as many.
    pub(super) full: u64,
    /// How many files of a size are merged into one.
    pub(super) fan: usize,
}

impl Sizes {
    /// The most bytes that one file has.
    pub(super) fn most(&self) -> u64 {
        self.full.saturating_mul(2)
    }

    /// How many bytes of one day make a file of their own worth while.
    pub(super) fn piece(&self) -> u64 {
        (self.full / STEP).max(1)
    }

    fn tier(&self, bytes: u64) -> u32 {
        let mut tier = 0;
        let mut least = self.full / STEP;
        while tier < LOWEST && bytes < least {
            tier += 1;
            least /= STEP;
        }
        tier
    }
}

/// The UTC day of a `time`.
pub(super) fn day_of(time: i64) -> i64 {
    time.div_euclid(DAY)
}

/// The one day whose rows a file holds.
fn only_day(file: &FileRecord) -> Option<i64> {
    let day = day_of(file.time_min);
    (day == day_of(file.time_max)).then_some(day)
}

/// How many bytes each day has in files of its own.
pub(super) fn own_bytes<'a>(files: impl IntoIterator<Item = &'a FileRecord>) -> HashMap<i64, u64> {
    let mut days = HashMap::new();
    for file in files {
        if let Some(day) = only_day(file) {
            *days.entry(day).or_default() += file.bytes;
        }
    }
    days
}

type Files = Vec<Arc<FileRecord>>;

/// All sets of files that are due, those of the smallest files first.
fn due(files: &[Arc<FileRecord>], sizes: Sizes) -> Vec<Files> {
    let fan = sizes.fan.max(2);
    if files.len() < fan {
        return Vec::new();
    }
    let days = own_bytes(files.iter().map(AsRef::as_ref));
    let mut tiers: BTreeMap<(std::cmp::Reverse<u32>, Option<i64>), Files> = BTreeMap::new();
    let mut wide = Vec::new();
    for file in files {
        let day = only_day(file);
        if file.bytes < sizes.full {
            let large = day.filter(|day| days.get(day).is_some_and(|bytes| *bytes >= sizes.full));
            let tier = (std::cmp::Reverse(sizes.tier(file.bytes)), large);
            tiers.entry(tier).or_default().push(Arc::clone(file));
        } else if day.is_none() {
            wide.push(Arc::clone(file));
        }
    }
    let mut due: Vec<Files> = tiers.into_values().filter(|files| files.len() >= fan).collect();
    due.extend(overlapping(&wide, fan));
    due
}

/// The widest of those files that overlap where most do, if that is where `fan` do.
fn overlapping(files: &[Arc<FileRecord>], fan: usize) -> Option<Files> {
    let mut ends: Vec<(i64, bool)> = Vec::new();
    for file in files {
        ends.push((file.time_min, false));
        ends.push((file.time_max, true));
    }
    // At one moment, those that begin before those that end: they share it.
    ends.sort_unstable();
    let (mut open, mut most, mut at) = (0_usize, 0, 0);
    for (time, ends) in ends {
        if ends {
            open -= 1;
        } else {
            open += 1;
            if open > most {
                (most, at) = (open, time);
            }
        }
    }
    if most < fan {
        return None;
    }
    let mut there: Files = files
        .iter()
        .filter(|file| file.time_min <= at && at <= file.time_max)
        .cloned()
        .collect();
    there.sort_by_key(|file| (std::cmp::Reverse(file.time_max.abs_diff(file.time_min)), file.object.clone()));
    there.truncate(fan);
    Some(there)
}

/// The files to merge next, those of earlier rows first; none when all is well.
pub(super) fn next(files: &[Arc<FileRecord>], sizes: Sizes) -> Option<Files> {
    due(files, sizes).into_iter().next().map(|files| at_once(files, sizes))
}

/// The files to write anew next because they hold a row of an earlier `time` than this beside others; none when none does.
pub(super) fn overdue(files: &[Arc<FileRecord>], before: i64, sizes: Sizes) -> Option<Files> {
    let overdue: Files = files
        .iter()
        .filter(|file| file.time_min < before && before <= file.time_max)
        .cloned()
        .collect();
    (!overdue.is_empty()).then(|| at_once(overdue, sizes))
}

/// As many of them as are merged at once, those of earlier rows first.
fn at_once(mut next: Files, sizes: Sizes) -> Files {
    next.sort_by(|a, b| (a.time_min, &a.object).cmp(&(b.time_min, &b.object)));
    let most = sizes.full.saturating_mul(sizes.fan.max(2) as u64);
    let mut bytes = 0_u64;
    let mut count = 0;
    let fits = |file: &Arc<FileRecord>| {
        bytes = bytes.saturating_add(file.bytes);
        count += 1;
        count <= 2 || (bytes <= most.saturating_mul(2) && count <= MOST_FILES)
    };
    next.into_iter().take_while(fits).collect()
}

/// How many files wait to be merged.
pub(super) fn backlog(files: &[Arc<FileRecord>], sizes: Sizes) -> usize {
    due(files, sizes).iter().map(Vec::len).sum()
}

/// How many rows each new file takes, in order of time. `days` are the rows of each day that are merged, in order, which are `bytes` together
/// by the old files' sizes; `own` is what each day has in files of its own besides.
///
/// Files do not cross the ends of a day that has `full` bytes, unless hardly anything of it is merged here.
pub(super) fn layout(days: &[(i64, u64)], bytes: u64, own: &HashMap<i64, u64>, sizes: Sizes) -> Vec<u64> {
    let total: u64 = days.iter().map(|(_, rows)| rows).sum();
    let bytes_of = |rows: u64| {
        let share = u128::from(rows) * u128::from(bytes) / u128::from(total.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    };
    let is_large = |day: i64, rows: u64| {
        let here = bytes_of(rows);
        here >= sizes.piece() && here.saturating_add(own.get(&day).copied().unwrap_or(0)) >= sizes.full
    };
    let (mut runs, mut open) = (Vec::new(), 0);
    for (day, rows) in days {
        if is_large(*day, *rows) {
            runs.extend([std::mem::take(&mut open), *rows]);
        } else {
            open += rows;
        }
    }
    runs.push(open);
    let mut files = Vec::new();
    for rows in runs.into_iter().filter(|rows| *rows > 0) {
        let count = (bytes_of(rows) / sizes.full.max(1)).clamp(1, rows);
        files.extend((0..count).map(|nth| rows / count + u64::from(nth < rows % count)));
    }
    files
}

#[cfg(test)]
mod tests {
    use base::TableId;
    use proptest::prelude::*;

    use super::*;

    const SIZES: Sizes = Sizes { full: 1 << 20, fan: 8 };

    fn file(number: usize, bytes: u64, time_min: i64, time_max: i64) -> Arc<FileRecord> {
        Arc::new(FileRecord {
            object: zones::ObjectName::new("tables/7/x", &number.to_string(), b"").unwrap(),
            table: TableId::from_bytes([1; 16]),
            file: number.to_string(),
            bytes,
            rows: bytes / 50 + 1,
            time_min,
            time_max,
            sealed_key: Vec::new(),
        })
    }

    /// What becomes of files when what is next is merged until nothing is: rows are spread evenly over the time of their file.
    /// Returns the files, and how many bytes were written.
    fn settle(mut files: Files, number: &mut usize) -> (Files, u64) {
        let (mut written, mut rounds) = (0, 0);
        while let Some(next) = next(&files, SIZES) {
            rounds += 1;
            assert!(rounds < 10_000, "this does not end");
            assert!(next.len() >= 2 && next.len() <= MOST_FILES);
            files.retain(|file| !next.iter().any(|gone| gone.object == file.object));
            let mut days: BTreeMap<i64, u64> = BTreeMap::new();
            for file in &next {
                let (first, last) = (day_of(file.time_min), day_of(file.time_max));
                let count = (last - first + 1) as u64;
                for day in first..=last {
                    let nth = (day - first) as u64;
                    *days.entry(day).or_default() += file.rows / count + u64::from(nth < file.rows % count);
                }
            }
            let days: Vec<(i64, u64)> = days.into_iter().filter(|(_, rows)| *rows > 0).collect();
            let bytes: u64 = next.iter().map(|file| file.bytes).sum();
            let rows: u64 = days.iter().map(|(_, rows)| rows).sum();
            let own = own_bytes(files.iter().map(AsRef::as_ref));
            written += bytes;
            let (mut at, mut left) = (0, days[0].1);
            for count in layout(&days, bytes, &own, SIZES) {
                let first = days[at].0;
                let mut take = count;
                while take > left {
                    take -= left;
                    at += 1;
                    left = days[at].1;
                }
                left -= take;
                let last = days[at].0;
                if left == 0 && at + 1 < days.len() {
                    at += 1;
                    left = days[at].1;
                }
                *number += 1;
                files.push(file(*number, bytes * count / rows, first * DAY, last * DAY + DAY - 1));
            }
        }
        (files, written)
    }

    #[test]
    fn files_that_come_in_one_after_the_other_stay_few_and_are_written_anew_a_few_times() {
        // 40 MiB over four days, 10 KiB at a time.
        let (mut files, mut number, mut written, mut most) = (Vec::new(), 0, 0, 0);
        for nth in 0..4_000 {
            number += 1;
            let time = nth * 4 * DAY / 4_000;
            files.push(file(number, 10 << 10, time, time + 80));
            let (settled, more) = settle(files, &mut number);
            files = settled;
            written += more;
            most = most.max(files.iter().filter(|file| file.bytes < SIZES.full).count());
        }
        assert!(most <= 42, "{most} small files");
        let total: u64 = files.iter().map(|file| file.bytes).sum();
        assert!(written < total * 5, "{written} bytes were written for {total}");
        assert!(files.iter().all(|file| file.bytes < SIZES.most()));
        assert!(files.len() < 40 + 42, "{}", files.len());
    }

    #[test]
    fn late_events_over_many_days_make_no_file_per_day_until_the_days_are_large() {
        let (mut files, mut number, mut most, mut written) = (Vec::new(), 0, 0, 0);
        for _ in 0..3_000 {
            number += 1;
            files.push(file(number, 10 << 10, 0, 365 * DAY - 1));
            let (settled, more) = settle(files, &mut number);
            files = settled;
            written += more;
            most = most.max(files.len());
        }
        assert!(most < 90, "{most} files for 30 MiB");
        assert!(written < 8 * 3_000 * (10 << 10), "{written}");
        // At no moment many full files lie upon each other.
        for day in 0..365 {
            let covers = |file: &&Arc<FileRecord>| file.bytes >= SIZES.full && file.time_min <= day * DAY && day * DAY <= file.time_max;
            assert!(files.iter().filter(covers).count() < SIZES.fan);
        }
    }

    #[test]
    fn a_large_day_has_files_of_its_own_and_small_days_share_theirs() {
        let mib = 1 << 20;
        let none = HashMap::new();
        // Ten rows a day but for the third, which has what is left of three mebibytes.
        let days = [(1, 10), (2, 10), (3, 1_000_000), (4, 10), (5, 10)];
        assert_eq!(layout(&days, 3 * mib, &none, SIZES), [20, 500_000, 500_000, 20]);
        // All days alike, and none is large.
        let days: Vec<(i64, u64)> = (0..10).map(|day| (day, 100)).collect();
        assert_eq!(layout(&days, 4 * mib, &none, SIZES), [250; 4]);
        // The same, and of one there is more already.
        let own = HashMap::from([(3, 2 * mib)]);
        assert_eq!(layout(&days, 4 * mib, &own, SIZES), [300, 100, 300, 300]);
        // So little of it that a file is not worth while.
        assert_eq!(layout(&days, mib / 2, &own, SIZES), [1000]);
        assert_eq!(layout(&[], 0, &none, SIZES), [] as [u64; 0]);
    }

    #[test]
    fn full_files_of_one_day_and_such_as_follow_one_another_are_left_alone() {
        let mib = 1 << 20;
        let same_day: Files = (0..50).map(|nth| file(nth, mib, 10, 20)).collect();
        assert_eq!(next(&same_day, SIZES), None);
        let following: Files = (0..50)
            .map(|nth| file(nth, mib, nth as i64 * 5 * DAY, (nth as i64 + 1) * 5 * DAY))
            .collect();
        assert_eq!(next(&following, SIZES), None);
        let upon: Files = (0..9).map(|nth| file(nth, mib, 0, (nth as i64 + 2) * DAY)).collect();
        let chosen = next(&upon, SIZES).unwrap();
        assert_eq!(chosen.len(), 8);
        assert!(!chosen.contains(&upon[0]), "the widest first");
        assert_eq!(backlog(&upon, SIZES), 8);
    }

    #[test]
    fn files_of_which_some_rows_are_too_old_are_written_anew_alone_or_some_at_once() {
        let mib = 1 << 20;
        let files = [file(0, 10, 0, 99), file(1, 10, 100, 300), file(2, 10, 50, 100), file(3, 10, 99, 99)];
        assert_eq!(overdue(&files, 100, SIZES), Some(vec![Arc::clone(&files[2])]));
        assert_eq!(overdue(&files, 50, SIZES), Some(vec![Arc::clone(&files[0])]));
        assert_eq!(overdue(&files, 0, SIZES), None);
        let many: Files = (0..100).map(|nth| file(nth, mib, nth as i64, DAY)).collect();
        let first = overdue(&many, 1000, SIZES).unwrap();
        assert_eq!(first, many[..16], "as many as are merged at once");
    }

    proptest! {
        #[test]
        fn no_row_is_left_out_and_no_file_is_too_large(
            rows in proptest::collection::btree_map(0_i64..40, 1_u64..5_000, 1..20),
            bytes in 1_u64..(64 << 20),
            own in proptest::collection::hash_map(0_i64..40, 0_u64..(4 << 20), 0..10),
        ) {
            let days: Vec<(i64, u64)> = rows.into_iter().collect();
            let total: u64 = days.iter().map(|(_, rows)| rows).sum();
            let files = layout(&days, bytes, &own, SIZES);
            prop_assert_eq!(files.iter().sum::<u64>(), total);
            let bytes_of = |rows: u64| u128::from(rows) * u128::from(bytes) / u128::from(total);
            for rows in &files {
                prop_assert!(*rows > 0);
                // A row cannot be divided.
                prop_assert!(bytes_of(*rows) <= u128::from(SIZES.most()) + u128::from(bytes) / u128::from(total) + 1);
            }
            // No file crosses the ends of a large day.
            let (mut ends, mut at) = (Vec::new(), 0);
            for rows in &files {
                at += rows;
                ends.push(at);
            }
            let mut at = 0;
            for (day, rows) in &days {
                let here = bytes_of(*rows);
                if here >= u128::from(SIZES.full / 8) && here + u128::from(own.get(day).copied().unwrap_or(0)) >= u128::from(SIZES.full) {
                    prop_assert!((at == 0 || ends.contains(&at)) && ends.contains(&(at + rows)));
                }
                at += rows;
            }
        }

        #[test]
        fn whatever_files_there_are_merging_ends(
            sizes in proptest::collection::vec((1_u64..(3 << 20), 0_i64..20, 0_i64..20), 0..80),
        ) {
            let mut number = 0;
            let files: Files = sizes
                .into_iter()
                .map(|(bytes, first, days)| {
                    number += 1;
                    file(number, bytes, first * DAY, (first + days) * DAY + 5)
                })
                .collect();
            let before: u64 = files.iter().map(|file| file.rows).sum();
            let (files, _) = settle(files, &mut number);
            prop_assert!(files.len() <= 250);
            prop_assert!(before > 0 || files.is_empty());
        }
    }
}
