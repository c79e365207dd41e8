//! Believable events of a web shop, the same ones for the same seed and end.
//!
//! 2,000 people over 30 days: some come daily, most now and then; evenings and weekends are busy; of those who look at things some put
//! something into the cart, and of those some buy. Some sessions are anonymous: they have a visitor id and no e-mail address.
//!
//! Start at [`events`]. Does not know how events are sent.

use base::Timestamp;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::msgpack::{Fields, Value};
use super::words::{BROWSERS, CAMPAIGNS, COUNTRIES, Country, FIRST_NAMES, LAST_NAMES, PRODUCTS, Product, REFERRERS, SEARCHES, VERSIONS};

/// How many events there are.
pub(crate) const EVENTS: usize = 100_000;
/// How many people they are of.
pub(crate) const PEOPLE: usize = 2_000;
/// Over how many days.
pub(crate) const DAYS: i64 = 30;

const DAY: i64 = 86_400;
/// How busy the shop is, by hour of the visitor's day.
const BY_HOUR: [u32; 24] = [
    4, 2, 1, 1, 1, 2, 5, 9, 12, 14, 15, 16, 18, 16, 14, 14, 15, 18, 22, 27, 30, 26, 17, 9,
];
/// By day of the week, Thursday first (the epoch was one).
const BY_WEEKDAY: [u32; 7] = [9, 10, 14, 15, 8, 8, 8];

struct Person {
    email: String,
    visitor: String,
    country: &'static Country,
    device: &'static str,
    browser: &'static str,
    language: &'static str,
    loyal: bool,
    /// How often this person comes, compared to others.
    weight: f64,
}

/// The events, in order of time, none later than `end`, each as `form` makes it: all of them as fields would take much memory.
pub(crate) fn events<T>(seed: u64, end: Timestamp, form: impl Fn(&Fields) -> T) -> Vec<T> {
    let chance = &mut StdRng::seed_from_u64(seed);
    let people: Vec<Person> = (0..PEOPLE).map(|number| person(number, chance)).collect();
    let ladder = ladder(&people);
    let mut all: Vec<(i64, T)> = Vec::with_capacity(EVENTS + 64);
    let mut session = 0;
    let mut happened = Vec::new();
    while all.len() < EVENTS {
        // Everybody comes at least once, and says who they are.
        let (who, known) = match people.get(session) {
            Some(first) => (first, true),
            None => (&people[pick(&ladder, chance)], chance.random_bool(0.7)),
        };
        let start = moment(end.as_secs(), who.country.hours, chance);
        visit(who, known, start, end.as_secs(), chance, &mut happened);
        all.extend(happened.drain(..).map(|(time, fields)| (time, form(&fields))));
        session += 1;
    }
    all.truncate(EVENTS);
    all.sort_by_key(|(time, _)| *time);
    all.into_iter().map(|(_, event)| event).collect()
}

/// One of them by name, a good customer: whoever reads about the demo can ask for her.
const ADA: &str = "ada@example.com";

fn person(number: usize, chance: &mut StdRng) -> Person {
    let first = one(FIRST_NAMES, chance);
    let last = one(LAST_NAMES, chance);
    let country = COUNTRIES.choose_weighted(chance, |c| c.share).unwrap_or(&COUNTRIES[0]);
    let device = *one(&["mobile", "mobile", "mobile", "desktop", "desktop", "tablet"], chance);
    // example.* is reserved: nobody real has these addresses. The number keeps them apart.
    let email = format!(
        "{first}.{last}{number}@{}",
        one(&["example.com", "example.org", "example.net"], chance)
    );
    let of_words = number == 0;
    let email = if of_words { ADA.to_owned() } else { email };
    Person {
        email,
        visitor: format!("{:016x}", chance.random::<u64>()),
        country,
        device,
        browser: one::<&str>(BROWSERS, chance),
        language: one::<&str>(country.languages, chance),
        loyal: chance.random_bool(0.15) || of_words,
        weight: if of_words {
            1.0
        } else {
            1.0 / (1.0 + f64::from(chance.random_range(0..400_u32))).sqrt()
        },
    }
}

fn ladder(people: &[Person]) -> Vec<f64> {
    let mut sum = 0.0;
    people
        .iter()
        .map(|person| {
            sum += person.weight * if person.loyal { 3.0 } else { 1.0 };
            sum
        })
        .collect()
}

fn pick(ladder: &[f64], chance: &mut StdRng) -> usize {
    let top = ladder.last().copied().unwrap_or(1.0);
    let at = chance.random_range(0.0..top);
    ladder.partition_point(|step| *step <= at).min(ladder.len() - 1)
}

/// When a session starts: by the clock of where the visitor lives.
fn moment(end: i64, hours: i64, chance: &mut StdRng) -> i64 {
    loop {
        let time = end - 1800 - chance.random_range(0..DAYS * DAY - 7200);
        let local = time + hours * 3600;
        let busy = BY_HOUR[(local.rem_euclid(DAY) / 3600) as usize] * BY_WEEKDAY[local.div_euclid(DAY).rem_euclid(7) as usize];
        if chance.random_range(0..30 * 15) < busy {
            return time;
        }
    }
}

/// One visit: what a person does until they leave.
struct Visit<'a> {
    who: &'a Person,
    known: bool,
    session: String,
    version: &'static str,
    referrer: &'static str,
    campaign: Option<&'static str>,
    time: i64,
    end: i64,
    all: &'a mut Vec<(i64, Fields)>,
}

fn visit(who: &Person, known: bool, start: i64, end: i64, chance: &mut StdRng, all: &mut Vec<(i64, Fields)>) {
    let referrer = *one(REFERRERS, chance);
    // Old versions fade out over the month.
    let age = ((end - start) * 3 / (DAYS * DAY)) as usize;
    let newest = VERSIONS.len() - 1 - age.min(VERSIONS.len() - 1);
    let version = VERSIONS[newest.saturating_sub(usize::from(chance.random_bool(0.2)))];
    let campaign = if referrer.is_empty() || chance.random_bool(0.6) {
        None
    } else {
        Some(*one(CAMPAIGNS, chance))
    };
    let session = format!("{:012x}", chance.random::<u64>() >> 16);
    let mut visit = Visit {
        who,
        known,
        session,
        version,
        referrer,
        campaign,
        time: start,
        end,
        all,
    };
    visit.page("/", chance);
    if known && chance.random_bool(0.5) {
        visit.event(
            "login",
            "/login",
            vec![("method", Value::from(*one(&["password", "password", "passkey", "link"], chance)))],
        );
    }
    let mut cart: Vec<(&Product, i64)> = Vec::new();
    let looks = chance.random_range(1..=if who.loyal { 9 } else { 5 });
    for _ in 0..looks {
        if chance.random_bool(0.25) {
            visit.search(chance);
        }
        let product = one(PRODUCTS, chance);
        visit.page(&format!("/{}/{}", product.category, product.sku), chance);
        if chance.random_bool(if who.loyal { 0.35 } else { 0.22 }) {
            let quantity = *one(&[1, 1, 1, 1, 2, 2, 3], chance);
            visit.add_to_cart(product, quantity);
            cart.push((product, quantity));
        }
    }
    if cart.is_empty() {
        return;
    }
    visit.page("/cart", chance);
    if chance.random_bool(if known { 0.6 } else { 0.3 }) {
        visit.event("checkout_started", "/checkout", vec![("items", Value::Int(cart.len() as i64))]);
        visit.pause(20..180, chance);
        if chance.random_bool(0.75) {
            visit.purchase(&cart, chance);
        }
    }
}

impl Visit<'_> {
    fn pause(&mut self, seconds: std::ops::Range<i64>, chance: &mut StdRng) {
        self.time += chance.random_range(seconds);
    }

    fn page(&mut self, path: &str, chance: &mut StdRng) {
        let load = 80 + chance.random_range(0..40_i64) * chance.random_range(1..30_i64);
        self.event("page_view", path, vec![("load_ms", Value::Int(load))]);
        self.pause(4..90, chance);
    }

    fn search(&mut self, chance: &mut StdRng) {
        let query = *one(SEARCHES, chance);
        let results = if chance.random_bool(0.08) {
            0
        } else {
            chance.random_range(1..60_i64)
        };
        self.event("search", "/search", vec![("query", query.into()), ("results", Value::Int(results))]);
        self.pause(3..40, chance);
    }

    fn add_to_cart(&mut self, product: &Product, quantity: i64) {
        let price = price(product, self.who.country);
        let path = format!("/{}/{}", product.category, product.sku);
        self.event(
            "add_to_cart",
            &path,
            vec![
                ("sku", product.sku.into()),
                ("category", product.category.into()),
                ("price", Value::Float(price)),
                ("quantity", Value::Int(quantity)),
                ("currency", self.who.country.currency.into()),
            ],
        );
        self.time += 5;
    }

    fn purchase(&mut self, cart: &[(&Product, i64)], chance: &mut StdRng) {
        let country = self.who.country;
        let cents: i64 = cart
            .iter()
            .map(|(product, quantity)| (price(product, country) * 100.0).round() as i64 * quantity)
            .sum();
        let items = cart.iter().map(|(product, quantity)| {
            Value::Map(vec![
                ("sku", product.sku.into()),
                ("name", product.name.into()),
                ("price", Value::Float(price(product, country))),
                ("quantity", Value::Int(*quantity)),
            ])
        });
        let shipping = *one(&["standard", "standard", "express", "pickup"], chance);
        let properties = vec![
            ("items", Value::List(items.collect())),
            ("shipping", shipping.into()),
            ("gift", Value::Bool(chance.random_bool(0.07))),
        ];
        self.event(
            "purchase",
            "/checkout/done",
            vec![
                ("order_id", format!("o-{:010x}", chance.random::<u64>() >> 24).into()),
                ("price", Value::Float(cents as f64 / 100.0)),
                ("quantity", Value::Int(cart.iter().map(|(_, quantity)| quantity).sum())),
                ("currency", country.currency.into()),
                ("payment", (*one(&["card", "card", "wallet", "invoice", "transfer"], chance)).into()),
                ("properties", Value::Map(properties)),
            ],
        );
    }

    fn event(&mut self, name: &'static str, path: &str, more: Fields) {
        let who = self.who;
        let time = self.time.min(self.end);
        let mut fields = vec![
            ("time", Value::Int(time)),
            ("event", name.into()),
            ("session", self.session.clone().into()),
            ("visitor", who.visitor.clone().into()),
            ("url", format!("https://shop.example{path}").into()),
            ("country", who.country.code.into()),
            ("language", who.language.into()),
            ("device", who.device.into()),
            ("browser", who.browser.into()),
            ("app_version", self.version.into()),
        ];
        if self.known {
            fields.push(("email", who.email.clone().into()));
        }
        if !self.referrer.is_empty() {
            fields.push(("referrer", self.referrer.into()));
        }
        if let Some(campaign) = self.campaign {
            fields.push(("campaign", campaign.into()));
        }
        fields.extend(more);
        self.all.push((time, fields));
    }
}

fn price(product: &Product, country: &Country) -> f64 {
    ((product.cents as f64 * country.rate) / 100.0).floor() + 0.90
}

fn one<'a, T>(of: &'a [T], chance: &mut StdRng) -> &'a T {
    &of[chance.random_range(0..of.len())]
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    const END: Timestamp = Timestamp::from_secs(1_790_000_000);

    fn field<'a>(event: &'a Fields, name: &str) -> Option<&'a Value> {
        event.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    #[test]
    fn the_same_seed_and_end_give_the_same_events_and_another_seed_others() {
        let (one, two, other) = (
            events(1, END, Fields::clone),
            events(1, END, Fields::clone),
            events(2, END, Fields::clone),
        );
        assert!(one == two);
        assert!(one != other);
        assert_eq!(one.len(), EVENTS);
    }

    #[test]
    fn everybody_is_there_within_the_month_and_in_order() {
        let all = events(7, END, Fields::clone);
        let times: Vec<i64> = all
            .iter()
            .map(|e| if let Some(Value::Int(t)) = field(e, "time") { *t } else { 0 })
            .collect();
        let people: HashSet<String> = all.iter().filter_map(|e| field(e, "email")).map(|v| format!("{v:?}")).collect();
        assert!(times.is_sorted());
        assert!(times[0] > END.as_secs() - DAYS * DAY && times[EVENTS - 1] <= END.as_secs());
        assert_eq!(people.len(), PEOPLE);
        let hers = all
            .iter()
            .filter(|e| matches!(field(e, "email"), Some(Value::Text(email)) if email == ADA));
        let names: Vec<String> = hers.filter_map(|e| field(e, "event")).map(|v| format!("{v:?}")).collect();
        assert!(
            names.len() > 100 && names.iter().any(|name| name.contains("purchase")),
            "{}",
            names.len()
        );
    }

    #[test]
    fn the_funnel_narrows_and_the_evening_is_busier_than_the_night() {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut hours = [0_usize; 24];
        for event in events(7, END, Fields::clone) {
            if let (Some(Value::Text(name)), Some(Value::Int(time))) = (field(&event, "event"), field(&event, "time")) {
                *counts.entry(name.clone()).or_default() += 1;
                hours[(time.rem_euclid(DAY) / 3600) as usize] += 1;
            }
        }
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        assert!(
            count("page_view") > count("add_to_cart") && count("add_to_cart") > count("checkout_started"),
            "{counts:?}"
        );
        assert!(
            count("checkout_started") > count("purchase") && count("purchase") > 1000,
            "{counts:?}"
        );
        assert!(hours[18] > 3 * hours[2], "{hours:?}");
    }
}
