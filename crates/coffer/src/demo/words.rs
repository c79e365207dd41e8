//! What the sample shop is made of.

/// Where people live.
pub(super) struct Country {
    pub(super) code: &'static str,
    pub(super) currency: &'static str,
    pub(super) languages: &'static [&'static str],
    /// Hours ahead of UTC.
    pub(super) hours: i64,
    /// What one euro is there, about.
    pub(super) rate: f64,
    /// How many of a hundred people live there.
    pub(super) share: u32,
}

const fn country(
    code: &'static str,
    currency: &'static str,
    languages: &'static [&'static str],
    hours: i64,
    rate: f64,
    share: u32,
) -> Country {
    Country {
        code,
        currency,
        languages,
        hours,
        rate,
        share,
    }
}

pub(super) const COUNTRIES: &[Country] = &[
    country("DE", "EUR", &["de", "de", "en"], 1, 1.0, 28),
    country("FR", "EUR", &["fr"], 1, 1.0, 16),
    country("GB", "GBP", &["en"], 0, 0.86, 14),
    country("NL", "EUR", &["nl", "en"], 1, 1.0, 9),
    country("AT", "EUR", &["de"], 1, 1.0, 8),
    country("CH", "CHF", &["de", "fr", "it"], 1, 0.95, 7),
    country("PL", "PLN", &["pl"], 1, 4.3, 6),
    country("IT", "EUR", &["it"], 1, 1.0, 6),
    country("US", "USD", &["en", "en", "es"], -5, 1.1, 4),
    country("JP", "JPY", &["ja"], 9, 160.0, 2),
];

/// What is sold.
pub(super) struct Product {
    pub(super) sku: &'static str,
    pub(super) name: &'static str,
    pub(super) category: &'static str,
    pub(super) cents: i64,
}

const fn product(sku: &'static str, name: &'static str, category: &'static str, cents: i64) -> Product {
    Product {
        sku,
        name,
        category,
        cents,
    }
}

pub(super) const PRODUCTS: &[Product] = &[
    product("kettle-1l", "Kettle, 1 litre", "kitchen", 3900),
    product("kettle-2l", "Kettle, 2 litres", "kitchen", 4900),
    product("pan-24", "Iron pan, 24 cm", "kitchen", 5900),
    product("pan-28", "Iron pan, 28 cm", "kitchen", 6900),
    product("knife-chef", "Chef's knife", "kitchen", 8900),
    product("board-oak", "Oak cutting board", "kitchen", 3400),
    product("mug-blue", "Mug, blue", "kitchen", 1200),
    product("mug-white", "Mug, white", "kitchen", 1200),
    product("lamp-desk", "Desk lamp", "light", 7900),
    product("lamp-floor", "Floor lamp", "light", 14900),
    product("bulb-warm", "Bulb, warm white", "light", 700),
    product("bulb-cold", "Bulb, cold white", "light", 700),
    product("rug-wool", "Wool rug", "home", 22900),
    product("blanket", "Linen blanket", "home", 6400),
    product("cushion-red", "Cushion, red", "home", 2400),
    product("cushion-sand", "Cushion, sand", "home", 2400),
    product("clock-wall", "Wall clock", "home", 4400),
    product("mirror-60", "Mirror, 60 cm", "home", 9900),
    product("pot-small", "Flower pot, small", "garden", 900),
    product("pot-large", "Flower pot, large", "garden", 2900),
    product("hose-20", "Hose, 20 m", "garden", 3600),
    product("shears", "Garden shears", "garden", 2700),
    product("bench", "Garden bench", "garden", 18900),
    product("seeds-mix", "Wildflower seeds", "garden", 500),
    product("tent-2", "Tent for two", "outdoor", 15900),
    product("bag-sleep", "Sleeping bag", "outdoor", 9400),
    product("bottle-steel", "Steel bottle", "outdoor", 2200),
    product("stove-gas", "Camping stove", "outdoor", 4700),
    product("pack-30", "Backpack, 30 litres", "outdoor", 11900),
    product("torch", "Torch", "outdoor", 2900),
];

pub(super) const SEARCHES: &[&str] = &[
    "kettle",
    "iron pan",
    "desk lamp",
    "rug",
    "mirror",
    "garden bench",
    "tent",
    "backpack",
    "gift",
    "blue mug",
    "led bulb",
    "blanket",
    "knife",
    "flower pot",
    "sleeping bag",
    "clock",
    "voucher",
    "cushion cover",
];

/// Empty: the address was typed.
pub(super) const REFERRERS: &[&str] = &[
    "",
    "",
    "",
    "https://search.example/",
    "https://search.example/",
    "https://search.example/",
    "https://social.example/feed",
    "https://news.example/home-and-garden",
    "https://mail.example/",
    "https://blog.example/ten-lamps",
];

pub(super) const CAMPAIGNS: &[&str] = &["spring", "newsletter-12", "newsletter-13", "retargeting", "brand"];
pub(super) const BROWSERS: &[&str] = &["chrome", "chrome", "chrome", "safari", "safari", "firefox", "edge"];
/// Oldest first.
pub(super) const VERSIONS: &[&str] = &["4.9.2", "5.0.0", "5.0.1", "5.1.0"];

pub(super) const FIRST_NAMES: &[&str] = &[
    "ada", "amir", "anna", "ben", "bruno", "carla", "chen", "clara", "david", "elif", "emma", "felix", "fatima", "greta", "hanna", "hugo",
    "ines", "ivan", "jana", "jonas", "karim", "kofi", "lea", "leon", "lucia", "maja", "marek", "mia", "nora", "olga", "omar", "paul",
    "priya", "rosa", "samir", "sofia", "theo", "yuki", "zoe", "tom",
];

pub(super) const LAST_NAMES: &[&str] = &[
    "acker", "bauer", "bell", "berg", "blum", "costa", "dubois", "ebert", "ferri", "fischer", "gomez", "haas", "hill", "ito", "jansen",
    "keller", "kowalski", "lang", "lopez", "martin", "meyer", "moreau", "nagel", "novak", "okoye", "otto", "peters", "quinn", "rossi",
    "sato", "schmid", "silva", "stone", "tanaka", "urban", "vogel", "weber", "wolf", "young", "zeller",
];
