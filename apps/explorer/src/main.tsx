import { createRoot } from 'react-dom/client';
import { App } from './app.tsx';
import './style.css';

const place = document.getElementById('app');
if (place === null) throw new Error('The page has no place for the explorer.');
createRoot(place).render(<App />);
