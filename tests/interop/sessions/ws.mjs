// The package `ws`, from the folder that the tests install it in.

import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const folder = process.env.EVERLINK_INTEROP ?? fileURLToPath(new URL("../../../target/interop", import.meta.url));
export const { WebSocket, WebSocketServer } = createRequire(`${folder}/`)("ws");
