// The script of the page finds what the index finds in Rust, in the same order, and shows where.

import {scenario} from "../../../../testkit/browser/harness.mjs";

await scenario(async ({input, open, check}) => {
  const {page} = await open(input.url);
  for (const {question, anchors} of input.asked) {
    await page.fill("#--search", question);
    const seen = await page.$$eval("#--results a", (list) => list.map((one) => one.getAttribute("href").slice(1)));
    check(JSON.stringify(seen) === JSON.stringify(anchors), `${question}: ${seen}, not ${anchors}`);
    const marked = await page.$$eval("#--results mark", (list) => list.map((one) => one.textContent.toLowerCase()));
    const words = question.toLowerCase().split(" ");
    check(marked.every((mark) => words.includes(mark)), `${question}: marked ${marked}`);
    const said = await page.textContent("#--said");
    check(said === (anchors.length === 1 ? "1 page" : `${anchors.length} pages`), `said: ${said}`);
  }
  return {asked: input.asked.length};
});
