//! The words of the demo's items: short exam questions in Korean and English, with numbers drawn anew.

use super::figures::Kind;
use super::random::Random;

/// Subjects as the items name them.
pub(super) const SUBJECTS: [&str; 6] = ["수학", "국어", "과학", "사회", "English", "Mathematics"];

/// A question without a figure, fitting its subject.
pub(super) fn question(subject: &str, random: &mut Random) -> String {
    match subject {
        "수학" => korean_mathematics(random),
        "국어" => korean(random),
        "과학" => science(random),
        "사회" => society(random),
        "English" => english(random),
        _ => mathematics(random),
    }
}

fn korean_mathematics(random: &mut Random) -> String {
    let mut number = |low, high| random.between(low, high);
    let (a, b, c) = (number(2, 40), number(2, 90), number(1, 60));
    match number(0, 3) {
        0 => format!("일차방정식 {a}x + {b} = {c}의 해를 구하시오."),
        1 => format!(
            "자연수 {b}와 {c}의 최대공약수와 최소공배수의 합에 {a}를 더한 값은?\n① {}\n② {}\n③ {}\n④ {}",
            a + b,
            a + c,
            b + c,
            a + b + c
        ),
        2 => format!("등차수열의 첫째항이 {a}, 공차가 {b}일 때 제{c}항을 구하시오."),
        _ => format!(
            "주머니에 흰 공 {a}개와 검은 공 {b}개가 들어 있다. {c}번째로 꺼낸 공이 흰 공일 확률을 구하시오."
        ),
    }
}

fn korean(random: &mut Random) -> String {
    let place =
        *random.choose(&["산골 마을", "바닷가", "오래된 도서관", "기차역", "시장 골목", "강가의 정자"]);
    let theme =
        *random.choose(&["그리움", "세월의 흐름", "공동체의 따뜻함", "자연에 대한 경외", "배움의 기쁨"]);
    let (paragraph, line) = (random.between(1, 5), random.between(1, 12));
    format!(
        "다음 글은 {place}을(를) 배경으로 {theme}을(를) 노래한다. 글을 읽고 물음에 답하시오.\n\
         제{paragraph}문단 {line}행에서 말하는 이의 태도로 가장 알맞은 것은?\n\
         ① 담담하다 ② 간절하다 ③ 원망한다 ④ 체념한다 ⑤ 기대한다"
    )
}

fn science(random: &mut Random) -> String {
    let mut number = |low, high| random.between(low, high);
    let (mass, force, time) = (number(1, 30), number(5, 200), number(2, 60));
    match number(0, 2) {
        0 => format!(
            "질량이 {mass} kg인 물체에 {force} N의 힘이 {time}초 동안 작용하였다. 물체의 가속도와 속력의 변화량을 구하시오. (단, 마찰은 무시한다.)"
        ),
        1 => format!(
            "물 {force} g의 온도를 {mass} ℃에서 {} ℃로 높이는 데 필요한 열량은 몇 J인가? 물의 비열은 4.2 J/(g·℃)이다.",
            mass + time
        ),
        _ => format!(
            "어떤 세포가 {time}분마다 한 번씩 분열한다. 처음에 {mass}개였다면 {}분 뒤의 수를 구하시오.",
            time * 4 + force
        ),
    }
}

fn society(random: &mut Random) -> String {
    let region =
        *random.choose(&["영동 지방", "호남 평야", "수도권", "영남 내륙", "제주도", "서해안 간척지"]);
    let (year, share) = (random.between(1960, 2020), random.between(5, 80));
    format!(
        "{region}의 인구 변화를 조사하였다. {year}년 이후 노년층의 비율이 {share}%가 되었다면 \
         이 지역에서 나타날 수 있는 현상을 두 가지 서술하시오."
    )
}

fn english(random: &mut Random) -> String {
    let person = *random.choose(&[
        "A young teacher",
        "My grandmother",
        "The lighthouse keeper",
        "An engineer",
        "Our neighbour",
    ]);
    let thing = *random.choose(&[
        "a broken clock",
        "a letter from abroad",
        "an unfinished map",
        "a box of seeds",
        "an old violin",
    ]);
    let (hour, pages) = (random.between(5, 11), random.between(12, 300));
    format!(
        "Read the passage and answer the question.\n{person} found {thing} at {hour} o'clock in the morning and \
         wrote {pages} pages about it. Nobody believed the story until the following spring.\n\
         What is the passage mainly about?\n(A) patience (B) memory (C) doubt (D) travel"
    )
}

fn mathematics(random: &mut Random) -> String {
    let mut number = |low, high| random.between(low, high);
    let (a, b, c) = (number(2, 60), number(2, 60), number(2, 20));
    match number(0, 2) {
        0 => format!(
            "A train covers {a} km in {b} minutes and then {c} km in {} minutes. Find its average speed in km/h.",
            b + c
        ),
        1 => format!("Solve for x: {a}x² − {b}x + {c} = 0. State how many real solutions there are."),
        _ => format!(
            "A shop sells {a} pens for ${b}. How much do {} pens cost, and how many can be bought for ${}?",
            a * c,
            b + c
        ),
    }
}

/// A question about a figure.
pub(super) fn about_figure(kind: Kind, is_korean: bool, random: &mut Random) -> String {
    let mut number = |low, high| random.between(low, high);
    let (a, b) = (number(2, 40), number(2, 90));
    match (kind, is_korean) {
        (Kind::Triangle, true) => format!("그림과 같은 삼각형의 둘레가 x일 때, {a}x + {b}의 값을 구하시오."),
        (Kind::Triangle, false) => format!("The figure shows a triangle with perimeter x. Find {a}x + {b}."),
        (Kind::Circle, true) => {
            format!("그림의 원에서 현의 길이가 {a} cm일 때, 넓이가 {b}배인 원의 반지름을 구하시오.")
        }
        (Kind::Circle, false) => {
            format!(
                "In the circle shown the chord is {a} cm long. Find the radius of a circle with {b} times its area."
            )
        }
        (Kind::Graph, true) => {
            format!("그림은 함수 y = f(x)의 그래프이다. f({a}) − f(−{b})의 부호를 설명하시오.")
        }
        (Kind::Graph, false) => {
            format!(
                "The graph of y = f(x) is shown. Shift it {a} units to the right and {b} units up and sketch it."
            )
        }
        (Kind::Bars, true) => format!("막대그래프에서 값이 {b} 이상인 항목의 수에 {a}를 곱한 값은?"),
        (Kind::Bars, false) => {
            format!(
                "How many bars are taller than {b}? If each stands for {a} students, how many students are there?"
            )
        }
        (Kind::Grid, true) => {
            format!("표의 색칠된 칸은 전체의 몇 %인가? 한 칸의 넓이가 {a} cm²이면 {b}칸의 넓이는?")
        }
        (Kind::Grid, false) => {
            format!(
                "What share of the cells is filled? If a cell covers {a} cm², what area do {b} cells cover?"
            )
        }
    }
}
