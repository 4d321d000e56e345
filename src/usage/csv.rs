//! CSV as RFC 4180 has it, and safe to open: what spreadsheets would take for a formula is marked as text.

/// What a cell begins with that spreadsheets compute.
const FORMULA_STARTS: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// Lines of as many cells as the first has, which names them.
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        Self(vec![names.into_iter().map(str::to_owned).collect()])
    }

    pub(crate) fn line(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.push(cells.into_iter().collect());
    }

    /// Its lines without the columns of these names.
    pub(crate) fn without(self, names: &[&str]) -> Vec<Vec<String>> {
        let is_kept = |name: &String| !names.contains(&name.as_str());
        let kept: Vec<bool> = self.0.iter().take(1).flatten().map(is_kept).collect();
        let keep = |line: Vec<String>| {
            line.into_iter().zip(&kept).filter_map(|(cell, kept)| kept.then_some(cell)).collect()
        };
        self.0.into_iter().map(keep).collect()
    }

    pub(crate) fn into_csv(self) -> String {
        let mut text = String::new();
        for line in &self.0 {
            for (number, cell) in line.iter().enumerate() {
                if number > 0 {
                    text.push(',');
                }
                push(&mut text, cell);
            }
            text.push_str("\r\n");
        }
        text
    }
}

fn push(text: &mut String, cell: &str) {
    let mark = if cell.starts_with(FORMULA_STARTS) { "'" } else { "" };
    if cell.contains(['"', ',', '\r', '\n']) {
        text.extend(["\"", mark, &cell.replace('"', "\"\""), "\""]);
    } else {
        text.extend([mark, cell]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(cells: &[&str]) -> String {
        let mut table = Table::new(["a", "b"]);
        table.line(cells.iter().map(|cell| (*cell).to_owned()));
        table.into_csv()
    }

    #[test]
    fn lines_end_as_the_rule_says_and_cells_are_quoted_where_they_must_be() {
        assert_eq!(written(&["1", ""]), "a,b\r\n1,\r\n");
        assert_eq!(written(&["x,y", "he said \"no\""]), "a,b\r\n\"x,y\",\"he said \"\"no\"\"\"\r\n");
        assert_eq!(written(&["two\nlines", "é ;'"]), "a,b\r\n\"two\nlines\",é ;'\r\n");
    }

    #[test]
    fn what_would_be_computed_is_marked_as_text() {
        for cell in ["=1+2", "+1", "-1", "@SUM(A1)", "\tx"] {
            assert_eq!(written(&[cell, "1-2"]), format!("a,b\r\n'{cell},1-2\r\n"));
        }
        assert_eq!(written(&["=a,b", "\r=1"]), "a,b\r\n\"'=a,b\",\"'\r=1\"\r\n", "inside the quotes, too");
    }
}
