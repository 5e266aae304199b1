/** Who is here, and what this user is called. */

import { make } from "./dom.js";
import { colourNumberOf, type People, type Person } from "./people.js";

export class PeopleView {
  readonly element: HTMLElement;
  private readonly list = make("ul", { "aria-label": "Others who are here" });
  private readonly name: HTMLInputElement;
  private readonly me: HTMLElement;
  private shown = "";

  constructor(private readonly people: People) {
    this.name = make("input", {
      class: "name",
      "aria-label": "Your name",
      value: people.name,
      maxlength: "40",
      autocomplete: "off",
      on: { change: () => this.rename() },
    });
    this.me = make("label", {}, this.name);
    this.element = make("div", { class: "people" }, this.list, this.me);
    this.show();
  }

  show(): void {
    const all = this.people.list().filter((person) => !person.isMe);
    const shown = JSON.stringify([this.people.name, ...all.map(({ name, isKernel }) => [name, isKernel])]);
    if (shown === this.shown) return;
    this.shown = shown;
    this.list.replaceChildren(...all.map(item));
    this.me.className = `person colour-${colourNumberOf(this.people.name)}`;
    if (document.activeElement !== this.name) this.name.value = this.people.name;
  }

  private rename(): void {
    this.people.name = this.name.value;
    this.name.value = this.people.name;
  }
}

function item(person: Person): HTMLElement {
  const said = person.isKernel ? `${person.name} (runs code)` : person.name;
  return make("li", { class: `person colour-${person.colour}`, text: said });
}
