//! What an item says: Korean of the kind that exams are made of.

use super::{fraction, hash};

const LENGTHS: u64 = 21;
const SENTENCES: u64 = 22;

const OPENINGS: [&str; 6] = [
    "다음 글을 읽고 물음에 답하시오.",
    "그림은 어느 지역의 지질 단면을 나타낸 것이다.",
    "다음은 학생들이 수행한 탐구 활동의 일부이다.",
    "표는 세 물질의 성질을 비교한 것이다.",
    "(가)와 (나)에 대한 설명으로 옳은 것을 고르시오.",
    "다음 조건을 모두 만족하는 함수 f(x)에 대하여 물음에 답하시오.",
];

const BODIES: [&str; 16] = [
    "모든 국민은 법 앞에 평등하며, 누구든지 성별·종교 또는 사회적 신분에 의하여 차별을 받지 아니한다.",
    "물체가 받는 알짜힘이 일정할 때 가속도의 크기는 질량에 반비례한다.",
    "자료의 평균이 45이고 표준편차가 3.2일 때, 임의로 뽑은 표본의 크기는 64이다.",
    "The passage suggests that the author, unlike most of her contemporaries, doubted the claim.",
    "염색체 수가 2n=46인 세포가 감수 분열을 할 때 관찰되는 현상을 순서대로 나열한 것이다.",
    "조선 후기에는 모내기법이 널리 보급되어 벼와 보리의 이모작이 가능해졌다.",
    "화자는 떠나간 대상을 그리워하면서도 감정을 직접 드러내지 않고 자연물에 빗대어 표현한다.",
    "수요 곡선이 오른쪽으로 이동하고 공급 곡선이 변하지 않으면 균형 가격은 상승한다.",
    "0.1 M 수산화 나트륨 수용액 20 mL와 염산 10 mL를 혼합하였더니 용액의 온도가 높아졌다.",
    "북반구 중위도에 위치한 이 도시는 여름철에 고온 다습하고 겨울철에는 한랭 건조하다.",
    "두 점 A(1, 2), B(5, -4)를 지나는 직선과 원 x²+y²=25가 만나는 점의 개수를 구하시오.",
    "밑줄 친 ㉠이 가리키는 대상의 특징을 앞 문단의 내용과 관련지어 이해한 것으로 적절하지 않은 것은?",
    "정부는 국민의 안전을 위하여 필요한 조치를 할 수 있으며, 그 절차는 법률로 정한다.",
    "세포 호흡 과정에서 포도당은 해당 과정과 TCA 회로를 거쳐 이산화 탄소와 물로 분해된다.",
    "회로에 흐르는 전류의 세기를 측정하기 위하여 전류계를 저항과 직렬로 연결하였다.",
    "이 작품은 역사적 사건을 배경으로 하여 인물의 내면 갈등을 섬세하게 그려 낸 점이 돋보인다.",
];

const ENDINGS: [&str; 4] = [
    "① 옳다 ② 옳지 않다",
    "① ㄱ ② ㄴ ③ ㄱ, ㄷ ④ ㄴ, ㄷ ⑤ ㄱ, ㄴ, ㄷ",
    "① 12 ② 18 ③ 24 ④ 30 ⑤ 36",
    "<보기>에서 옳은 것만을 있는 대로 고른 것은? ① ㄱ ② ㄴ ③ ㄷ ④ ㄱ, ㄴ ⑤ ㄴ, ㄷ",
];

/// The subjects, in turn.
pub const SUBJECTS: [&str; 5] = ["과학", "사회", "수학", "국어", "영어"];

/// Adds the text of an item. Most are short, few are long, and exams differ; the mean is about 1,360 bytes.
pub fn write(item: u64, text: &mut String) {
    let exam = 0.6 + 0.8 * fraction(LENGTHS, 1_000_000_000 + item / 700);
    let drawn = fraction(LENGTHS, item);
    // An exponential tail, cut at fifty sentences.
    let sentences = ((1.0 - 10.25 * exam * (1.0 - drawn).ln()) as u64).min(50);
    text.push_str(OPENINGS[(hash(SENTENCES, item) % OPENINGS.len() as u64) as usize]);
    for sentence in 0..sentences {
        let drawn = hash(SENTENCES + 1, item * 64 + sentence);
        text.push(' ');
        text.push_str(BODIES[(drawn % BODIES.len() as u64) as usize]);
    }
    text.push(' ');
    text.push_str(ENDINGS[(hash(SENTENCES + 2, item) % ENDINGS.len() as u64) as usize]);
}
