/** What a test page has: the package, as a program would import it, and Yjs. */

import * as Y from "yjs";

import * as collab from "package";

Object.assign(globalThis, { collab, Y });
