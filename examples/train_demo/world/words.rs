//! The words of the world, and which pairs of them are kept for held-out stories.

/// People.
pub(crate) const PEOPLE: [&str; 16] = [
    "Tom", "Ben", "Sam", "Max", "Leo", "Gus", "Jon", "Ned", "Ana", "Mia", "Eva", "Ida", "Zoe", "Liv", "Kim",
    "Una",
];

/// Places that people are in and go to.
pub(crate) const PLACES: [&str; 12] = [
    "kitchen", "garden", "hall", "attic", "barn", "shed", "park", "shop", "school", "cellar", "mill", "tower",
];

/// Things that one person at a time has; each has a colour.
pub(crate) const THINGS: [&str; 16] = [
    "ball", "book", "cup", "hat", "key", "lamp", "box", "bell", "drum", "coin", "map", "kite", "rope", "fan",
    "pen", "doll",
];

/// Colours of things.
pub(crate) const COLOURS: [&str; 8] = ["red", "blue", "green", "white", "black", "golden", "pink", "grey"];

/// What people have some of.
pub(crate) const GOODS: [&str; 8] = ["plums", "nuts", "eggs", "pears", "figs", "cakes", "beans", "shells"];

/// How many of them.
pub(crate) const NUMBERS: [&str; 8] = ["two", "three", "four", "five", "six", "seven", "eight", "nine"];

/// Times of a day, in their order.
pub(crate) const TIMES: [&str; 5] =
    ["in the morning", "at noon", "in the afternoon", "in the evening", "at night"];

/// Sentences that a story may begin with; they say nothing that is asked.
pub(crate) const OPENINGS: [&str; 8] = [
    "It was a warm and quiet day.",
    "It was a cold day, and the wind was strong.",
    "The sun was shining and the birds were singing in the trees.",
    "It had been raining all night, and the grass was still wet.",
    "Once again it was a long and lovely day in the village.",
    "There was snow on the roofs of the old village.",
    "It was the first day of spring, and the air was fresh.",
    "This is a story from a small village by the sea.",
];

/// What may be said about a person in between, without weight.
pub(crate) const MOODS: [&str; 8] = [
    "was happy and hummed a little song.",
    "was tired and wanted to sleep.",
    "was hungry and thought of bread and soup.",
    "looked out of the window for a while.",
    "was in a good mood that day.",
    "told everyone a very old joke.",
    "liked to be alone now and then.",
    "had slept well and felt strong.",
];

/// Ways to end a plain story.
pub(crate) const ENDINGS: [&str; 6] = [
    "That was the end of the day.",
    "And so the day was over, and the moon came up.",
    "Nobody in the village could remember a better day.",
    "After that everyone went to bed and slept.",
    "It was a day like any other in the village.",
    "Then the stars came out one by one.",
];

/// A hash of words in their order (FNV-1a), the same on every machine.
pub(crate) fn hash(words: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for word in words {
        for byte in word.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    // The low bits of FNV hang on the low bits of its input alone.
    hash ^ (hash >> 32)
}

/// Whether a pair of words (a person and a place, a thing and its colour, …) stands in held-out stories only: one pair
/// in eight.
pub(crate) fn reserved(first: &str, second: &str) -> bool {
    hash(&[first, second]).is_multiple_of(8)
}
