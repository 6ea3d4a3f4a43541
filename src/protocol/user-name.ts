const MODEL = /^[\p{L}_][\p{L}\p{N}_]*\.[\p{L}_][\p{L}\p{N}_]*$/u;

/** `auth.user:42`, or the primary key alone, which may have colons of its own. The model in lower case, as Django's labels are. */
export function splitUserName(text: string): { readonly model: string | undefined; readonly id: string } {
  const colon = text.indexOf(':');
  const model = text.slice(0, Math.max(0, colon));
  return MODEL.test(model) ? { model: model.toLowerCase(), id: text.slice(colon + 1) } : { model: undefined, id: text };
}
