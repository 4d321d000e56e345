// OpenAI's library.

import OpenAI from 'openai';
import { BREAKS_OFF, EMBEDDER, HI, KEY, LIMITED_KEY, LIMITED_URL, MODEL, PIXEL, SCHEMA, SLOW, TOOL, TOOLS, URL, assert } from './common.js';

const client = new OpenAI({ baseURL: `${URL}/v1`, apiKey: KEY, maxRetries: 0 });
const ask = (fields) => client.chat.completions.create({ model: MODEL, messages: HI, ...fields });

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert(models.includes(MODEL), models);

const reply = await ask({});
const text = reply.choices[0].message.content;
assert(text && reply.usage.total_tokens > 0);
let streamed = '';
for await (const chunk of await ask({ stream: true })) streamed += chunk.choices[0]?.delta?.content ?? '';
assert.equal(streamed, text);

const asked = await ask({ model: TOOLS, tools: [TOOL] });
const call = asked.choices[0].message.tool_calls[0];
assert.equal(asked.choices[0].finish_reason, 'tool_calls');
const messages = [...HI, asked.choices[0].message, { role: 'tool', tool_call_id: call.id, content: 'sunny' }];
assert((await ask({ messages, tools: [TOOL] })).choices[0].message.content);

await ask({
  messages: [{ role: 'user', content: 'schema' }],
  response_format: { type: 'json_schema', json_schema: { name: 'city', schema: SCHEMA } },
});
const image = { type: 'image_url', image_url: { url: `data:image/png;base64,${PIXEL}` } };
await ask({ messages: [{ role: 'user', content: [{ type: 'text', text: 'picture' }, image] }] });

const respond = (fields) => client.responses.create({ model: MODEL, input: 'hi', ...fields });
const response = await respond({ store: true });
assert.equal(response.output_text, text);
assert((await respond({ previous_response_id: response.id })).output_text);
let deltas = '';
let last;
for await (const event of await respond({ stream: true })) {
  if (event.type === 'response.output_text.delta') deltas += event.delta;
  last = event;
}
assert.equal(deltas, text);
assert.equal(last.type, 'response.completed');
const flat = { type: 'function', name: 'get_weather', description: 'd', parameters: SCHEMA, strict: false };
const final = await client.responses.stream({ model: TOOLS, input: 'hi', tools: [flat] }).finalResponse();
const called = final.output.find((item) => item.type === 'function_call');
assert.equal(called.name, call.function.name);
const output = { type: 'function_call_output', call_id: called.call_id, output: 'sunny' };
const went = [...HI, ...final.output, output];
assert((await respond({ input: went, tools: [flat] })).output_text);
await assert.rejects(async () => {
  for await (const _ of await respond({ model: BREAKS_OFF, stream: true }));
}, OpenAI.APIError);

const packed = await client.embeddings.create({ model: EMBEDDER, input: ['a', 'b'] });
const plain = await client.embeddings.create({ model: EMBEDDER, input: ['a', 'b'], encoding_format: 'float' });
assert.deepEqual(packed.data[1].embedding, plain.data[1].embedding.map(Math.fround));

const stranger = new OpenAI({ baseURL: `${URL}/v1`, apiKey: 'dsk_nothing', maxRetries: 0 });
await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
await assert.rejects(ask({ model: 'nothing' }), OpenAI.NotFoundError);
await assert.rejects(async () => {
  for await (const _ of await ask({ model: BREAKS_OFF, stream: true }));
}, OpenAI.APIError);

const slow = await ask({ model: SLOW, stream: true });
for await (const _ of slow) break;
slow.controller.abort();

const hasty = new OpenAI({ baseURL: `${LIMITED_URL}/v1`, apiKey: LIMITED_KEY, maxRetries: 0 });
await assert.rejects(async () => {
  for (let n = 0; n < 9; n++) await hasty.models.list();
}, OpenAI.RateLimitError);
const patient = new OpenAI({ baseURL: `${LIMITED_URL}/v1`, apiKey: LIMITED_KEY, maxRetries: 5 });
for (let n = 0; n < 3; n++) await patient.models.list();
