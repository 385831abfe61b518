//! The words of a generated cluster key: 256 of them, so that one word is one byte.
//!
//! Invariant: 256 distinct words of lower-case letters, so 16 words are 128 bits. Keys that were
//! generated once stay valid if the list changes: a key is any text, its words have no meaning.

/// Short, common, easily told apart when read aloud.
pub const WORDS: [&str; 256] = [
    "acid", "acorn", "actor", "adult", "agent", "album", "alley", "amber", "anchor", "ankle", "apple",
    "apron", "arch", "arena", "armor", "arrow", "atlas", "attic", "award", "axis", "bacon", "badge", "bagel",
    "baker", "bamboo", "banjo", "barn", "basil", "basket", "beach", "beacon", "bean", "beaver", "bell",
    "bench", "berry", "bike", "birch", "bison", "blade", "blanket", "blaze", "bloom", "board", "boat",
    "bonus", "boot", "bottle", "bowl", "brass", "bread", "brick", "bridge", "broom", "brush", "bucket",
    "butter", "button", "cabin", "cable", "cactus", "camel", "camp", "canal", "candle", "canoe", "canvas",
    "carbon", "cargo", "carpet", "carrot", "castle", "cedar", "cello", "chalk", "cherry", "chess", "chest",
    "cider", "cinema", "circle", "citrus", "clay", "cliff", "clock", "cloud", "clover", "coast", "cobalt",
    "cocoa", "comet", "copper", "coral", "cotton", "crane", "crater", "crayon", "cricket", "crown",
    "crystal", "cube", "curtain", "cycle", "daisy", "dawn", "delta", "desert", "diamond", "dolphin",
    "donkey", "door", "dragon", "drum", "dune", "eagle", "earth", "echo", "elbow", "ember", "engine",
    "fabric", "falcon", "feather", "fence", "fern", "ferry", "fiber", "field", "fig", "finch", "flame",
    "flask", "flint", "flute", "forest", "fossil", "fox", "frost", "galaxy", "garden", "garlic", "gate",
    "gecko", "ghost", "ginger", "glacier", "globe", "glove", "goat", "grape", "gravel", "guitar", "hammer",
    "harbor", "harp", "hazel", "helmet", "hermit", "heron", "hinge", "honey", "hook", "horizon", "hotel",
    "husky", "igloo", "iris", "island", "ivory", "jacket", "jade", "jaguar", "jelly", "jewel", "jungle",
    "kayak", "kettle", "kiosk", "kite", "kiwi", "koala", "ladder", "lagoon", "lamp", "lantern", "laser",
    "lava", "lemon", "lentil", "lilac", "lily", "lime", "linen", "lion", "lizard", "lobster", "locket",
    "lotus", "magnet", "mango", "maple", "marble", "meadow", "melon", "mint", "mirror", "mosaic", "moss",
    "motor", "museum", "nectar", "needle", "nest", "noodle", "oasis", "ocean", "olive", "onion", "orbit",
    "orchid", "otter", "oven", "owl", "oyster", "paddle", "panda", "panther", "paper", "parrot", "peach",
    "pearl", "pebble", "pencil", "pepper", "piano", "pigeon", "pillow", "pilot", "pine", "planet", "plum",
    "pocket", "pond", "poplar", "poppy", "quartz", "quilt", "rabbit", "radar", "radio", "raven", "ribbon",
    "river", "robin", "rocket", "saddle",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_words_are_distinct_and_plain() {
        assert_eq!(WORDS.iter().collect::<BTreeSet<_>>().len(), 256);
        for word in WORDS {
            assert!((3..=8).contains(&word.len()), "{word}");
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase()), "{word}");
        }
    }
}
