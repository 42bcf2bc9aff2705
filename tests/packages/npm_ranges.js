// Writes npm_ranges.json beside it: for each range npm's verdict on every version, or null where npm refuses the range.
// Run it where npm's own semver package is found, for one with
//   NODE_PATH="$(npm root -g)/npm/node_modules" node tests/packages/npm_ranges.js
const fs = require("fs");
const path = require("path");
const semver = require("semver");

const versions = ("0.0.0 0.0.1-alpha 0.0.1 0.1.0 0.1.5 0.2.0 1.0.0-0 1.0.0-alpha 1.0.0-alpha.2 1.0.0-alpha.10 1.0.0-beta " +
  "1.0.0 1.0.1 1.2.0 1.2.3-rc.1 1.2.3 1.3.0 1.10.0 2.0.0-alpha 2.0.0 2.3.4 3.0.0 10.0.0").split(" ");

const operators = ["", "^", "~", "~>", ">", ">=", "<", "<=", "=", "^ ", ">= ", "==", "=>", "!"];
const bounds = ["1", "1.2", "1.2.3", "0", "0.1", "0.0.1", "1.x", "1.2.*", "x", "*", "1.0.0-alpha.2", "v1.2.3", "01.2.3",
  "1.2.3+build.5", "1.x.3"];
const others = ["", " ", "latest", "||", "*||", "1 || 2", "1||2", "^1 || ^3", "1 | 2", ">=1 <2", ">1.0.0 <=1.3", ">=1, <2",
  "1 - 2", "1.0.0 - 1.2.3", "1.2 - 1.3", "1-2", "1 -2", " - ", "x - 2", "1.x.3 - 2", "0.1.0 - 1.2.3-rc.1",
  ">=1.0.0-alpha.2 <1.0.0", ">=1.0.0-alpha <2.0.0-0", "1.2.3.4", "1.", ".1", "1..2", "^^1", "^", "~", ">", "<", "<>1",
  "><1", "1.2.3-", "1.2.3-01", "1.2.3-a..b", "1.2.3+", "1.2.3 +b", "1+b", "a.b.c", "1.a", "X", "X.X.X", "*.*", "*.1",
  "1.*.1", "1*", "*1", "=*", ">*", "<*", ">=*", "<=*", "^*", "~*", "1.2.3 2", "1.2.3 1.2.3", ">1 >2", "<0.0.0", "v1", "v",
  "=v1", "==1", "vv1", "1v", "\t1\n", "1\t||\t2", "1\u00a0||\u00a02", "\u0661", "\u00b2", "9007199254740991.0.0", "9007199254740992.0.0",
  "^9007199254740991", "1.0.0-9007199254740992", "file:../x", "git+ssh://git@host/x", "https://host/x.tgz", "npm:other@1",
  "workspace:*", ">=1.2.3 <1.2.3", "~1.2.3-rc.1", "^0.0.1-alpha", "^1.0.0-alpha", "~1.x.3", "^*.2", "1.0.0-alpha - 1.0.0",
  "*-alpha", "1.2.x-alpha", "1.x-alpha", "${version}", "1.2.3;", "(1)", "1 and 2", "1,2", "1 || || 2", "|| 1"];

const ranges = [...operators.flatMap((operator) => bounds.map((bound) => operator + bound)), ...others];
const verdicts = Object.fromEntries(ranges.map((range) => [range,
  semver.validRange(range) === null ? null : versions.map((version) => Number(semver.satisfies(version, range))).join("")]));
const lines = Object.entries(verdicts).map((pair) => pair.map((part) => JSON.stringify(part)).join(": "));
fs.writeFileSync(path.join(__dirname, "npm_ranges.json"),
  `{"versions": ${JSON.stringify(versions)}, "verdicts": {\n${lines.join(",\n")}\n}}\n`);
