// examples/browser/everlink.js in Node, with the WebSocket of `ws`, under test: WORKLOAD.md.

import { Session } from "../../../examples/browser/everlink.js";
import { TIMES, Workload, options } from "./workload.mjs";
import { WebSocket } from "./ws.mjs";

globalThis.WebSocket = WebSocket;
const [url, ...words] = process.argv.slice(2);
const chosen = options(words);
setTimeout(() => {
  console.error("the time is over");
  process.exit(1);
}, 1000 * chosen.timeout);
new Workload("c", chosen).runClient(new Session(url, TIMES), (result) => {
  console.log(JSON.stringify(result));
  process.exitCode = result.fault === null ? 0 : 1;
  setTimeout(process.exit, 200); // what was written last is on its way
});
