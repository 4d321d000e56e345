// What every client is told by its environment.

import assert from 'node:assert/strict';

export { assert };
export const URL = process.env.SERVICE_URL;
export const KEY = process.env.SERVICE_KEY;
export const LIMITED_URL = process.env.LIMITED_URL;
export const LIMITED_KEY = process.env.LIMITED_KEY;
export const MODEL = 'qwen3:8b';
export const EMBEDDER = 'nomic-embed-text:latest';
export const TOOLS = 'fake-tools-last:latest';
export const BREAKS_OFF = 'fake-no-done:latest';
export const SLOW = 'slow:latest';
export const PIXEL =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
export const SCHEMA = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
export const TOOL = { type: 'function', function: { name: 'get_weather', description: 'd', parameters: SCHEMA } };
export const HI = [{ role: 'user', content: 'hi' }];
