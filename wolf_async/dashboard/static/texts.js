// All words of the page, in English and Chinese.

export const LANGUAGES = ["en", "zh"];
const ZONE = "Asia/Shanghai"; // of the hours in which tasks may call
let current = "en";

const TEXTS = {
  title: ["Free lines", "线路并发看板"],
  skip: ["Skip to the accounts", "跳到账户列表"],
  free: ["Free", "空闲并发"],
  accounts: ["Accounts", "账户"],
  filter: ["Filter", "筛选"],
  filterHint: ["Account, line or remark", "账户、线路或备注"],
  sort: ["Order", "排序"],
  "sort.free": ["Least free first", "空闲最少在前"],
  "sort.name": ["By account id", "按账户 ID"],
  "language.en": ["English", "English"],
  "language.zh": ["中文", "中文"],
  none: ["No account matches.", "没有符合条件的账户。"],
  of: ["{free} of {total}", "{free} / {total}"],
  ofTotal: ["of {total} free", "/ {total} 空闲"],
  asOf: ["as of {time}", "截至 {time}"],
  "connection.connecting": ["Connecting …", "正在连接……"],
  "connection.live": ["Live", "实时更新中"],
  "connection.lost": ["Connection lost; trying again", "连接已断开，正在重试"],
  "state.waiting": ["Waiting", "等待数据"],
  "state.ok": ["OK", "正常"],
  "state.stale": ["Stale", "数据过时"],
  "state.failing": ["Failing", "查询失败"],
  news: ["Failing accounts: {count}", "查询失败的账户：{count}"],
  open: ["Open", "可呼叫"],
  closed: ["Closed", "不可呼叫"],
  openUntil: ["Open until {time}", "可呼叫至 {time}"],
  closedUntil: ["Closed until {time}", "{time} 起可呼叫"],
  noHours: ["No time group", "没有时间组"],
  loading: ["Loading …", "正在加载……"],
  noDetails: ["There is no answer for this account yet.", "该账户还没有数据。"],
  nothing: ["None", "无"],
  default: ["Default", "默认"],
  comma: [", ", "、"],
  "section.outbound": ["Outbound lines", "外呼线路"],
  "section.inbound": ["Inbound lines", "呼入线路"],
  "section.hours": ["Time groups (China time)", "时间组（北京时间）"],
  "section.scripts": ["Scripts", "话术"],
  "section.rules": ["Redial rules", "重呼规则"],
  endsAt: ["until {time}", "{time} 到期"],
  endedAt: ["ended {time}", "{time} 已到期"],
  usage: ["usage {value}", "用途 {value}"],
  "usage.1": ["regular", "常规"],
  "usage.2": ["LLM", "大模型"],
  "usage.4": ["end-to-end", "端到端"],
  "type.1": ["external", "外部线路"],
  "type.2": ["internal", "内部线路"],
  "kind.regular": ["regular", "常规"],
  "kind.v2": ["version 2.0", "2.0"],
  "kind.llm": ["LLM", "大模型"],
  redials: ["Calls again after: {outcomes}", "重呼条件：{outcomes}"],
};

const REASONS = {
  WolfAPIError: ["the server said no", "服务器拒绝了请求"],
  WolfAuthError: ["the token was refused", "令牌被拒绝"],
  WolfCircuitOpenError: ["many requests failed; pausing", "多次失败，暂停请求"],
  WolfClosedError: ["the client is closed", "客户端已关闭"],
  WolfConnectionError: ["no connection", "无法连接服务器"],
  WolfDecodeError: ["the answer cannot be read", "无法解析返回的数据"],
  WolfEndpointError: ["no such API at this address", "该地址没有此接口"],
  WolfNotFoundError: ["no such account", "账户不存在"],
  WolfPermissionError: ["no permission for this account", "无权访问该账户"],
  WolfRateLimitError: ["too many requests", "请求过于频繁"],
  WolfServerError: ["the server failed", "服务器出错"],
  WolfTimeoutError: ["no answer in time", "响应超时"],
  Stale: ["asking failed; this is an older answer", "查询失败，显示的是较早的数据"],
  Overdue: ["the next answer is overdue", "新数据未按时返回"],
  Lost: ["no connection to the dashboard", "与看板的连接已断开"],
};

// Outcomes of a call by number; the vendor's own labels are Chinese.
const OUTCOMES = [
  "waiting", "success", "blocked by the carrier", "rejected", "no answer", "no such number", "powered off",
  "out of service", "busy", "incoming calls restricted", "in arrears", "blacklisted", "blocked by the user",
];

export function language() {
  return current;
}

// Takes what is asked for, or else what the browser prefers.
export function setLanguage(asked) {
  const preferred = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
  current = LANGUAGES.includes(asked) ? asked : preferred;
}

function chosen(pair) {
  return pair[LANGUAGES.indexOf(current)];
}

export function text(key, values = {}) {
  return chosen(TEXTS[key]).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function reasonText(reason) {
  if (!reason) return "";
  return REASONS[reason] ? chosen(REASONS[reason]) : reason;
}

export function outcomeText(status, label) {
  return (current === "en" && OUTCOMES[status]) || label || String(status ?? "–");
}

// A number as it is read, or a dash where there is none.
export function figure(value) {
  return value === null || value === undefined ? "–" : value.toLocaleString("en");
}

const formats = new Map();

function format(options, seconds) {
  const key = current + JSON.stringify(options);
  const locale = current === "zh" ? "zh-CN" : "en-GB";
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(locale, options));
  return formats.get(key).format(seconds * 1000);
}

// A moment by the clock of whoever looks; with the date where it is not today's.
export function clock(seconds) {
  const time = format({ hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }, seconds);
  const day = { month: "short", day: "numeric" };
  const date = format(day, seconds);
  return date === format(day, Date.now() / 1000) ? time : `${date} ${time}`;
}

// A moment by China's clock, in which the hours are written; with the day where it is not today.
export function until(seconds) {
  const time = format({ hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: ZONE }, seconds);
  const day = { weekday: "short", timeZone: ZONE };
  const name = format(day, seconds);
  return name === format(day, Date.now() / 1000) ? time : `${name} ${time}`;
}

// Sunday first.
export function dayNames() {
  const sunday = 3 * 86400; // 1970-01-04
  return [0, 1, 2, 3, 4, 5, 6].map((day) => format({ weekday: "short", timeZone: "UTC" }, sunday + day * 86400));
}
