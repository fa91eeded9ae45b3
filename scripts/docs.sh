#!/usr/bin/env bash
# The documentation as a site in target/book: `make docs`. Needs the program: it writes the reference of its commands.
#
# mdBook is compiled once into .deps/mdbook (crates.io has no programs; some minutes, 15 MB).
set -euo pipefail
cd "$(dirname "$0")/.."

VERSION=0.5.4
program=${1:-target/release/camtrast}
mdbook=.deps/mdbook/bin/mdbook
source=target/book-source

if [ "$($mdbook --version 2>/dev/null)" != "mdbook v$VERSION" ]; then
  echo "docs: compiling mdBook $VERSION, once"
  CARGO_TARGET_DIR=target/mdbook cargo install --quiet --locked --root .deps/mdbook --no-default-features --features search \
    "mdbook@$VERSION"
  rm -rf target/mdbook
fi

rm -rf $source target/book
cp -r docs $source
# These two stand in the root of the repository.
sed 's#](docs/#](#g' CONTRIBUTING.md >$source/CONTRIBUTING.md
cp CHANGELOG.md $source/
printf '%s\n' '- [Contributing](CONTRIBUTING.md)' '- [Changes](CHANGELOG.md)' >>$source/SUMMARY.md
sed -i 's#](\.\./CONTRIBUTING.md#](CONTRIBUTING.md#g' $source/*.md
"$program" man --markdown --out $source/commands >/dev/null
for page in $source/commands/*.md; do
  name=$(basename "$page" .md)
  # After the last page of the reference.
  sed -i "/(glossary.md)/i - [camtrast $name](commands/$name.md)" $source/SUMMARY.md
done
$mdbook build --dest-dir "$PWD/target/book" $source
python3 scripts/check_links.py target/book
echo "target/book/index.html"
