// Ollama's library, with the key where it looks for one.

process.env.OLLAMA_API_KEY = process.env.SERVICE_KEY;
const { Ollama } = await import('ollama');
import { BREAKS_OFF, EMBEDDER, HI, KEY, LIMITED_KEY, LIMITED_URL, MODEL, PIXEL, SCHEMA, SLOW, TOOL, TOOLS, URL, assert } from './common.js';

const bearer = (key) => ({ authorization: `Bearer ${key}` });
const client = new Ollama({ host: URL, headers: bearer(KEY) });
const ask = (fields) => client.chat({ model: MODEL, messages: HI, ...fields });

const { models } = await client.list();
assert(models.some((model) => model.model === MODEL), models);
assert((await client.show({ model: MODEL })).capabilities.length > 0);

const reply = await ask({ keep_alive: 0, options: { num_ctx: 7 } });
const text = reply.message.content;
assert(text && reply.done);
assert((await client.ps()).models.some((model) => model.model === MODEL));
let streamed = '';
for await (const line of await ask({ stream: true })) streamed += line.message.content;
assert.equal(streamed, text);

const asked = await ask({ model: TOOLS, tools: [TOOL] });
const call = asked.message.tool_calls[0];
const messages = [...HI, asked.message, { role: 'tool', tool_name: call.function.name, content: 'sunny' }];
assert((await ask({ messages, tools: [TOOL] })).message.content);

await ask({ messages: [{ role: 'user', content: 'schema' }], format: SCHEMA });
await ask({ messages: [{ role: 'user', content: 'picture', images: [PIXEL] }] });
assert((await client.generate({ model: MODEL, prompt: 'once' })).response);
assert.equal((await client.embed({ model: EMBEDDER, input: ['a', 'b'] })).embeddings.length, 2);

const fails = (status) => (error) => error.status_code === status;
await assert.rejects(new Ollama({ host: URL, headers: bearer('dsk_nothing') }).list(), fails(401));
await assert.rejects(ask({ model: 'nothing' }), fails(404));
await assert.rejects(async () => {
  for await (const _ of await ask({ model: BREAKS_OFF, stream: true }));
});

const slow = await ask({ model: SLOW, stream: true });
setTimeout(() => slow.abort(), 100);
await assert.rejects(async () => {
  for await (const _ of slow);
}, { name: 'AbortError' });

const hasty = new Ollama({ host: LIMITED_URL, headers: bearer(LIMITED_KEY) });
await assert.rejects(async () => {
  for (let n = 0; n < 9; n++) await hasty.list();
}, fails(429));
