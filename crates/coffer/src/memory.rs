//! How much memory processes use, counting what they share once.

use std::fs;

/// The memory that these processes use together.
///
/// They run the same program: its pages are in memory once, however many processes show them as their own.
pub(crate) fn together(pids: impl IntoIterator<Item = u32>) -> u64 {
    let (mut own, mut shared) = (0, 0);
    for (resident, of_it_shared) in pids.into_iter().filter_map(pages) {
        own += resident.saturating_sub(of_it_shared);
        shared = of_it_shared.max(shared);
    }
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| u64::try_from(size).ok());
    (own + shared) * size.unwrap_or(4096)
}

/// Resident pages, and how many of them are shared; nothing when there is no such process.
fn pages(pid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut numbers = text.split(' ').skip(1).map_while(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_the_same_twice_shares_its_program() {
        let me = std::process::id();
        let (one, two) = (together([me]), together([me, me]));
        assert!(one > 1 << 20, "{one}");
        assert!(two < 2 * one, "{one} {two}");
        assert_eq!(together([0]), 0);
    }
}
