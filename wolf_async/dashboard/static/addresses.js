// Where the server is asked, below the page's own path.

// A page that was opened with a password in its address may not ask relative to that: the origin has none.
export function addressOf(name, parameters = {}) {
  const address = new URL(name, location.origin + location.pathname);
  address.search = new URLSearchParams(parameters);
  return address;
}

// Gives what the server answers, or null if it does not.
export async function ask(name, parameters) {
  try {
    const response = await fetch(addressOf(name, parameters));
    return response.ok ? await response.json() : null;
  } catch {
    return null; // the line about the connection says so
  }
}
