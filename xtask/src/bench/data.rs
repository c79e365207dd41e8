//! The data of the bench: events of a web shop over 30 days in the order of their time, the same for the same seed.
//!
//! Twelve columns: time, event, user_id, session, url, referrer (of half of the sessions), country, device, app_version, price and
//! quantity (of what is put into a cart or bought), properties (JSON in a text). A fiftieth of the rows is the number of users; some
//! come much more often than others.
//!
//! Start at [`Shop`]. Does not know files. Every fact about the rows that a query relies on is tested here.

use std::fmt::Write as _;

/// The first moment: a Thursday, 2026-01-01.
pub(crate) const START: i64 = 1_767_225_600;
/// How long the shop is watched, in seconds.
pub(crate) const SPAN: i64 = 30 * 86_400;

/// How busy each hour of the day is.
const BY_HOUR: [u64; 24] = [
    4, 2, 1, 1, 1, 2, 5, 9, 12, 14, 15, 16, 18, 16, 14, 14, 15, 18, 22, 27, 30, 26, 17, 9,
];
const COUNTRIES: [&str; 12] = ["DE", "FR", "US", "GB", "JP", "IT", "ES", "NL", "PL", "SE", "BR", "IN"];
const DEVICES: [&str; 6] = ["mobile", "mobile", "mobile", "desktop", "desktop", "tablet"];
const VERSIONS: [&str; 8] = ["4.0.1", "4.1.0", "4.1.3", "4.2.0", "4.2.2", "4.3.0", "5.0.0", "5.0.1"];
const REFERRERS: [&str; 6] = [
    "https://search.example/results?q=shoes+for+the+rain",
    "https://search.example/results?q=tent",
    "https://social.example/feed/",
    "https://news.example.org/2026/weekend-trips",
    "https://mail.example.net/inbox",
    "https://partner.example.com/offers/winter?from=banner",
];
const SECTIONS: [&str; 8] = ["tents", "shoes", "jackets", "bags", "maps", "lamps", "stoves", "sale"];

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) time: i64,
    pub(crate) event: &'static str,
    pub(crate) user_id: String,
    pub(crate) session: String,
    pub(crate) url: String,
    pub(crate) referrer: Option<&'static str>,
    pub(crate) country: &'static str,
    pub(crate) device: &'static str,
    pub(crate) app_version: &'static str,
    pub(crate) cents: Option<u64>,
    pub(crate) quantity: Option<u64>,
    pub(crate) properties: String,
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is not zero.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// From 0 up to 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

struct Visit {
    user: u64,
    session: u64,
    country: &'static str,
    device: &'static str,
    version: &'static str,
    referrer: Option<&'static str>,
    /// How many things are in the cart.
    cart: u64,
    /// How many more events there are.
    left: u64,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Look,
    Checkout,
    Buy,
}

/// A shop that is visited until all rows are there.
pub(crate) struct Shop {
    chance: Chance,
    rows: u64,
    users: u64,
    made: u64,
    visits: Vec<Visit>,
    /// Where in the day each hour begins, as a part of all of the day's rows.
    hours: [f64; 25],
}

impl Shop {
    /// A shop of so many rows.
    pub(crate) fn new(rows: u64, seed: u64) -> Self {
        let mut chance = Chance(seed);
        let users = (rows / 50).max(20);
        // So many visits at once that a visitor does something every half minute or so.
        let at_once = (30 * rows / SPAN as u64).clamp(8, 20_000);
        let visits = (0..at_once).map(|_| visit(&mut chance, users, 0.0)).collect();
        let all: u64 = BY_HOUR.iter().sum();
        let mut hours = [0.0; 25];
        let mut sum = 0;
        for (hour, share) in BY_HOUR.iter().enumerate() {
            sum += share;
            hours[hour + 1] = sum as f64 / all as f64;
        }
        Self {
            chance,
            rows,
            users,
            made: 0,
            visits,
            hours,
        }
    }

    /// When the row happens that is so far along.
    fn moment(&self, progress: f64) -> i64 {
        let days = progress * 30.0;
        let (day, within) = (days.floor(), days.fract());
        let hour = self.hours.partition_point(|begin| *begin <= within).clamp(1, 24) - 1;
        let part = (within - self.hours[hour]) / (self.hours[hour + 1] - self.hours[hour]);
        START + day as i64 * 86_400 + hour as i64 * 3_600 + (part * 3_600.0) as i64
    }
}

impl Iterator for Shop {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.made == self.rows {
            return None;
        }
        let progress = self.made as f64 / self.rows as f64;
        self.made += 1;
        let time = self.moment(progress);
        let at = self.chance.below(self.visits.len() as u64) as usize;
        if self.visits[at].left == 0 {
            self.visits[at] = visit(&mut self.chance, self.users, progress);
        }
        Some(happen(&mut self.visits[at], time, &mut self.chance))
    }
}

fn visit(chance: &mut Chance, users: u64, progress: f64) -> Visit {
    let user = (chance.part().powi(2) * users as f64) as u64;
    // Who comes always comes from one country, and mostly with one device.
    let newest = 2 + (progress * 5.0) as u64;
    Visit {
        user,
        session: chance.next(),
        country: COUNTRIES[(user * user % 131 % 12) as usize],
        device: DEVICES[((user + u64::from(chance.percent(20))) % 6) as usize],
        version: VERSIONS[newest.saturating_sub(chance.below(3)).min(7) as usize],
        referrer: chance.percent(50).then(|| REFERRERS[chance.below(6) as usize]),
        cart: 0,
        left: 2 + chance.below(14),
        step: Step::Look,
    }
}

fn happen(visit: &mut Visit, time: i64, chance: &mut Chance) -> Event {
    visit.left -= 1;
    let (section, number) = (SECTIONS[chance.below(8) as usize], chance.below(3_000));
    let mut url = String::from("https://shop.example/");
    let (mut cents, mut quantity) = (None, None);
    let event = match visit.step {
        Step::Look if visit.cart > 0 && visit.left < 3 => {
            visit.step = Step::Checkout;
            url.push_str("checkout");
            "checkout_started"
        }
        Step::Look if chance.percent(12) => {
            visit.cart += 1;
            cents = Some(490 + number * 7);
            quantity = Some(1 + chance.below(3));
            let _ = write!(url, "{section}/item-{number}");
            "add_to_cart"
        }
        Step::Look if chance.percent(10) => {
            let _ = write!(url, "search?q={section}+{}&page={}", number % 50, chance.below(4));
            "search"
        }
        Step::Look => {
            let _ = write!(url, "{section}/item-{number}?utm_campaign=c{}&variant={}", number % 9, number % 4);
            "page_view"
        }
        Step::Checkout if chance.percent(70) => {
            visit.step = Step::Buy;
            cents = Some(visit.cart * (990 + number * 11));
            quantity = Some(visit.cart);
            url.push_str("checkout/done");
            "purchase"
        }
        Step::Checkout | Step::Buy => {
            let _ = write!(url, "account/orders/{}", number % 40);
            "page_view"
        }
    };
    let properties = format!(
        "{{\"load_ms\":{},\"scroll\":{},\"experiment\":\"e{}\",\"gift\":{},\"color\":\"{}\"}}",
        60 + chance.below(40) * chance.below(40),
        chance.below(101),
        visit.session % 7,
        chance.percent(5),
        SECTIONS[(number % 8) as usize],
    );
    Event {
        time,
        event,
        user_id: user(visit.user),
        session: format!("{:016x}", visit.session),
        url,
        referrer: visit.referrer,
        country: visit.country,
        device: visit.device,
        app_version: visit.version,
        cents,
        quantity,
        properties,
    }
}

/// The identity of a user.
fn user(number: u64) -> String {
    format!("user.{number:07}@customers.example")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_rows_and_another_seed_others() {
        let rows = |seed| Shop::new(500, seed).collect::<Vec<_>>();
        assert_eq!(rows(1), rows(1));
        assert_ne!(rows(1), rows(2));
        assert_eq!(rows(1).len(), 500);
    }

    #[test]
    fn what_the_queries_look_for_is_there() {
        let rows: Vec<Event> = Shop::new(20_000, 1).collect();
        assert!(rows.is_sorted_by_key(|row| row.time));
        assert!(rows.iter().all(|row| (START..START + SPAN).contains(&row.time)));
        let mut by_event: BTreeMap<&str, usize> = BTreeMap::new();
        for row in &rows {
            *by_event.entry(row.event).or_default() += 1;
            let priced = ["add_to_cart", "purchase"].contains(&row.event);
            assert_eq!((row.cents.is_some(), row.quantity.is_some()), (priced, priced));
        }
        let count = |event: &str| by_event.get(event).copied().unwrap_or_default();
        assert!(count("page_view") > count("add_to_cart") && count("add_to_cart") > count("checkout_started"));
        assert!(
            count("checkout_started") > count("purchase") && count("purchase") > 200,
            "{by_event:?}"
        );
        let users: BTreeSet<&str> = rows.iter().map(|row| row.user_id.as_str()).collect();
        assert!(users.len() > 200 && users.len() <= 400, "{}", users.len());
        assert!(users.contains("user.0000001@customers.example"), "queries ask for this one");
        let hour = |wanted| rows.iter().filter(|row| row.time % 86_400 / 3_600 == wanted).count();
        assert!(hour(20) > 5 * hour(3));
    }
}
