/** Logs in through Django's own admin form and returns the Cookie header of the session. */
export async function djangoCookie(base: string, username: string, password: string): Promise<string> {
  const url = `${base}/admin/login/`;
  const form = await fetch(url);
  const csrf = /csrftoken=([^;]+)/.exec(form.headers.getSetCookie().join(';'))?.[1] ?? '';
  const answer = await fetch(url, {
    method: 'POST',
    redirect: 'manual',
    headers: { cookie: `csrftoken=${csrf}`, referer: url },
    body: new URLSearchParams({ username, password, csrfmiddlewaretoken: csrf, next: '/admin/' }),
  });
  const session = /sessionid=([^;]+)/.exec(answer.headers.getSetCookie().join(';'))?.[1];
  if (session === undefined) throw new Error(`Django did not log ${username} in: status ${answer.status}`);
  return `sessionid=${session}`;
}
