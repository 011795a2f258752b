//! Near misses: the known word that a misspelled one was probably meant to be.

/// Returns the known word that `word` was probably meant to be. Letter case does not count; up to
/// two letters can differ, fewer in words of less than eight letters.
pub fn near_miss<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let word = word.to_lowercase();
    let distance = |candidate: &str| edit_distance(&word, &candidate.to_lowercase());
    let closest = known.iter().min_by_key(|candidate| distance(candidate))?;
    (distance(closest) <= (closest.len() / 4).min(2)).then_some(closest)
}

/// Returns the text "; did you mean …?", or nothing if no known word is close.
pub(super) fn hint(word: &str, known: &[&str]) -> String {
    near_miss(word, known)
        .map(|meant| format!("; did you mean {meant}?"))
        .unwrap_or_default()
}

/// Returns the Levenshtein distance: how many letters to insert, remove or replace.
fn edit_distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (count, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = count + 1;
        for (column, candidate) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *candidate);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
