// What a user of the generated TypeScript client would write. Run as `node use_typescript_client.ts URL TARBALL`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { paths } from "./schema.d.ts";

const [url, file] = process.argv.slice(2);
const bytes = readFileSync(file!);
const account = { username: "linus", password: "Correct-Horse-42" };
const client = createClient<paths>({ baseUrl: url });

const registered = await client.POST("/api/v1/auth/register", { body: account });
assert.equal(registered.data?.user.username, "linus");
const taken = await client.POST("/api/v1/auth/register", { body: account });
assert.equal(taken.error?.code, "user_exists");
const login = await client.POST("/api/v1/auth/login", { body: account });
const headers = { Authorization: `Bearer ${login.data?.token}` };

const version = { name: "from-typescript", version: "1.0.0" };
const published = await client.PUT("/api/v1/packages/{name}/{version}", {
  params: { path: version },
  headers: { ...headers, "Content-Type": "application/octet-stream" },
  body: "", // the types have a string for bytes
  bodySerializer: () => bytes,
});
assert.equal(published.data?.package.name, "from-typescript");
const found = await client.GET("/api/v1/search", {
  params: { query: { q: "from-typescript", min_seq: published.data.seq } },
});
assert.deepEqual(found.data?.packages.map((result) => result.name), ["from-typescript"]);
const downloaded = await client.GET("/api/v1/packages/{name}/{version}/tarball", {
  params: { path: { ...version, version: "latest" } },
  parseAs: "arrayBuffer",
});
assert.ok(Buffer.from(downloaded.data!).equals(bytes));
const labels = await client.POST("/api/v1/auth/tokens/report", { body: [{ token: "syn_nobody-has-it" }] });
assert.deepEqual(labels.data?.map((label) => label.label), ["false_positive"]);
